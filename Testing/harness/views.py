"""slicer.app.layoutManager(): real layout, slice and composite nodes and slice logics; only the widgets are missing."""

import slicer


def sliceLogic(name):
    """The slice logic of the view called `name`, made where there is none yet; its nodes are the scene's own."""
    application = slicer.app.applicationLogic()
    found = application.GetSliceLogicByLayoutName(name)
    if found is not None:
        return found
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(slicer.mrmlScene)
    nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetLayoutName() == name]
    if nodes:
        logic.SetSliceNode(nodes[0])
    else:
        logic.AddSliceNode(name)
    application.GetSliceLogics().AddItem(logic)
    return logic


class SliceWidget:
    """layoutManager().sliceWidget(name), without the widget."""

    def __init__(self, name):
        self._logic = sliceLogic(name)

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()


class LayoutManager:
    """Keeps every layout that was asked for in `layouts`; the layout logic makes the slice nodes a layout names."""

    def __init__(self):
        self.layouts: list[int] = []
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    @property
    def layout(self):
        return self._logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout):
        self.layouts.append(layout)
        self._logic.GetLayoutNode().SetViewArrangement(layout)
        self.mrmlSliceLogics()  # as each slice widget makes its logic at once

    def layoutLogic(self):
        return self._logic

    def sliceViewNames(self):
        return tuple(node.GetLayoutName() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"))

    def sliceWidget(self, name):
        return SliceWidget(name) if name in self.sliceViewNames() else None

    def mrmlSliceLogics(self):
        for name in self.sliceViewNames():
            sliceLogic(name)
        return slicer.app.applicationLogic().GetSliceLogics()

    def resetSliceViews(self):
        for name in self.sliceViewNames():
            sliceLogic(name).FitSliceToBackground()
