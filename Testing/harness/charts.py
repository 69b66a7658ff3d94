"""Pictures of plot charts, offscreen, drawn from the chart's nodes as Slicer's plot view (qMRMLPlotView) draws them."""

import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .scene import quiet

PENS = ("NO_PEN", "SOLID_LINE", "DASH_LINE", "DOT_LINE", "DASH_DOT_LINE", "DASH_DOT_DOT_LINE")  # by LineStyle
MARKERS = ("NONE", "CROSS", "PLUS", "SQUARE", "CIRCLE", "DIAMOND")  # by MarkerStyle


def chartPicture(chart, size=(640, 420)):
    """A vtkMRMLPlotChartNode as an array (rows, columns, 3) of uint8."""
    view, drawn = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    drawn.GetBackgroundBrush().SetColor(255, 253, 246, 255)
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        drawn.AddPlot(_plot(chart.GetNthPlotSeriesNode(index)))
    drawn.SetTitle(chart.GetTitle() or "")
    drawn.GetTitleProperties().SetFontSize(chart.GetTitleFontSize())
    drawn.SetShowLegend(chart.GetLegendVisibility())
    if not chart.GetXAxisRangeAuto():
        drawn.GetAxis(vtk.vtkAxis.BOTTOM).SetBehavior(vtk.vtkAxis.FIXED)
        drawn.GetAxis(vtk.vtkAxis.BOTTOM).SetUnscaledRange(*chart.GetXAxisRange())
    for axis, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        drawn.GetAxis(axis).SetTitle(title or "")
        drawn.GetAxis(axis).SetLogScale(axis == vtk.vtkAxis.LEFT and chart.GetYAxisLogScale())
        drawn.GetAxis(axis).SetGridVisible(chart.GetGridVisibility())
        drawn.GetAxis(axis).GetTitleProperties().SetFontSize(chart.GetAxisTitleFontSize())
        drawn.GetAxis(axis).GetLabelProperties().SetFontSize(chart.GetAxisLabelFontSize())
    with quiet():  # as in pictures.py
        window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(4)
    window.SetSize(*size)
    view.SetRenderWindow(window)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()


def _plot(series):
    bars = series.GetPlotType() in (series.PlotTypeBar, series.PlotTypeScatterBar)
    plot = vtk.vtkPlotBar() if bars else vtk.vtkPlotLine()
    plot.SetWidth(series.GetLineWidth())
    plot.SetColorF(*series.GetColor())
    plot.GetPen().SetOpacityF(series.GetOpacity())
    if not bars:
        plot.GetPen().SetLineType(getattr(vtk.vtkPen, PENS[series.GetLineStyle()]))
        plot.SetMarkerSize(series.GetMarkerSize())
        plot.SetMarkerStyle(getattr(vtk, "VTK_MARKER_" + MARKERS[series.GetMarkerStyle()], MARKERS.index("NONE")))
    byIndex = series.GetPlotType() in (series.PlotTypeBar, series.PlotTypeLine)
    plot.SetUseIndexForXSeries(byIndex)
    x = series.GetYColumnName() if byIndex else series.GetXColumnName()
    plot.SetInputData(series.GetTableNode().GetTable(), x, series.GetYColumnName())
    plot.SetLabel(series.GetName() or "")
    return plot
