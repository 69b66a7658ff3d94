"""The result section: the verdict in words, the features before and after, and the ways to look at the images."""

import html

import qt
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.guard import Status, Verdict
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.report import change

from . import display, scene
from .featureTables import EXACT_REFERENCE, readFeatures
from .inputsPanel import isTarget


class ResultsPanel:
    """Shows one result; knows the nodes that its display buttons show."""

    def __init__(self, ui):
        self.ui = ui
        self._features = None
        ui.featureView.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            ui.featureView.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        ui.featureView.verticalHeader().hide()
        ui.featureView.verticalHeader().setDefaultSectionSize(22)
        ui.featureStructureCombo.connect("currentIndexChanged(int)", self._onStructure)
        self._buttons = (
            (ui.sideBySideButton, display.showSideBySide, ("input", "output")),
            (ui.checkerboardButton, display.showCheckerboard, ("input", "output")),
            (ui.differenceButton, display.showDifference, ("input", "output")),
            (ui.tableButton, display.showTable, ("table",)),
        )
        for button, show, needs in self._buttons:
            button.connect("clicked(bool)", lambda checked, show=show, needs=needs: self._show(show, needs))
        self.clear()

    def clear(self) -> None:
        """No result."""
        self._verdict, self._nodes = None, {}
        self.ui.verdictLabel.text = _("No result yet.")
        self.ui.reasonsBrowser.setVisible(False)
        self._setFeatures(None)
        self._enableDisplay()

    def show(self, verdict: Verdict, features: FeatureTable | None, inputVolume, outputVolume, tableNode) -> None:
        """A verdict with the nodes that belong to it; the last two are None where the result was refused."""
        nodes = {"input": inputVolume, "output": outputVolume, "table": tableNode}
        self._verdict = verdict
        self._nodes = {name: node for name, node in nodes.items() if node is not None}
        sentence = {
            Status.PASS: _("Pass: every check is met. Compare the images before you rely on them."),
            Status.REVIEW: _("Review: look at the points below before you use the result."),
            Status.REFUSE: _("Refused: the result was not written."),
        }[verdict.status]
        if verdict.status is Status.REFUSE and outputVolume is not None:
            sentence = _("Refused, and written because you asked for it; its name says so.")
        name, sentence = (html.escape(text) for text in (inputVolume.GetName(), sentence))
        self.ui.verdictLabel.text = f"{name}<br><b>{sentence}</b>"
        texts = verdict.reasons or [check.text for check in verdict.checks]
        self.ui.reasonsBrowser.setHtml("<br>".join(f"• {html.escape(text)}" for text in texts))
        self.ui.reasonsBrowser.setVisible(True)
        self._setFeatures(features)
        self._enableDisplay()

    def restore(self, outputVolume, tableNode) -> None:
        """Show the result that a scene was saved with, where there is one."""
        verdict = scene.readVerdict(outputVolume) if outputVolume is not None else None
        inputVolume = outputVolume.GetNodeReference(scene.SOURCE_REFERENCE) if verdict else None
        if inputVolume is None:
            return
        if tableNode is not None and tableNode.GetNodeReference(EXACT_REFERENCE) is None:
            tableNode = None
        features = readFeatures(tableNode) if tableNode is not None else None
        self.show(verdict, features, inputVolume, outputVolume, tableNode)

    @property
    def empty(self) -> bool:
        """Whether no result is shown."""
        return self._verdict is None

    def _setFeatures(self, features: FeatureTable | None) -> None:
        self._features = features
        combo = self.ui.featureStructureCombo
        combo.clear()
        for structure in features.structures() if features is not None else ():
            combo.addItem(structure)
        combo.currentIndex = self._mostWanted(features)
        shown = features is not None and combo.count > 0
        for widget in (self.ui.featureStructureLabel, combo, self.ui.featureView):
            widget.setVisible(shown)
        self._onStructure()

    @staticmethod
    def _mostWanted(features: FeatureTable | None) -> int:
        """The row of the structures that a planner wants to see first: disease by its name, else the first."""
        names = features.structures() if features is not None else ()
        return next((i for i, name in enumerate(names) if isTarget(name)), 0)

    def _onStructure(self, index=None) -> None:
        view, structure = self.ui.featureView, self.ui.featureStructureCombo.currentText
        if self._features is None or not structure:
            view.setRowCount(0)
            return
        rows = self._features.before_and_after(structure)
        view.setRowCount(len(rows))
        for row, (name, before, after) in enumerate(rows):
            about = self._features.column(name)
            # Every planner knows which image is meant by default; LoG and wavelet images stay named.
            short = name.removeprefix("original_").replace("_", " ")
            for column, text in enumerate((short, f"{before:.4g}", f"{after:.4g}", change(before, after))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip("\n".join(t for t in (name, about.description, about.unit) if t))
                if column:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                view.setItem(row, column, item)

    def _enableDisplay(self) -> None:
        for button, _show, needs in self._buttons:
            button.enabled = set(needs) <= set(self._nodes)

    def _show(self, show, needs: tuple[str, ...]) -> None:
        with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
            for node in (self._nodes[name] for name in needs):
                if node.GetScene() is None:
                    raise InputError(_("'{name}' is no longer in the scene").format(name=node.GetName()))
            show(*(self._nodes[name] for name in needs))
