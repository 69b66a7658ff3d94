"""The result section: the verdict in words, the features before and after, and the ways to look at the images."""

import html

import qt
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.guard import Status, Verdict
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.report import change

from . import display


class ResultsPanel:
    """Shows one result; knows the volumes that its display buttons compare."""

    def __init__(self, ui):
        self.ui = ui
        self._features = None
        self._volumes = None
        ui.featureView.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            ui.featureView.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        ui.featureView.verticalHeader().hide()
        ui.featureView.verticalHeader().setDefaultSectionSize(22)
        ui.featureStructureCombo.connect("currentIndexChanged(int)", self._onStructure)
        for button, show in (
            (ui.sideBySideButton, display.showSideBySide),
            (ui.checkerboardButton, display.showCheckerboard),
            (ui.differenceButton, display.showDifference),
        ):
            button.connect("clicked(bool)", lambda checked, show=show: self._show(show))
        self.clear()

    def clear(self) -> None:
        """No result."""
        self._volumes = None
        self.ui.verdictLabel.text = _("No result yet.")
        self.ui.reasonsBrowser.setVisible(False)
        self._setFeatures(None)
        self._enableDisplay()

    def show(self, verdict: Verdict, features: FeatureTable | None, inputVolume, outputVolume) -> None:
        """A verdict with the nodes that belong to it; `outputVolume` is None where the result was refused."""
        self._volumes = (inputVolume, outputVolume) if outputVolume is not None else None
        sentence = {
            Status.PASS: _("Pass: every check is met. Compare the images before you rely on them."),
            Status.REVIEW: _("Review: look at the points below before you use the result."),
            Status.REFUSE: _("Refused: the result was not written."),
        }[verdict.status]
        if verdict.status is Status.REFUSE and outputVolume is not None:
            sentence = _("Refused, but written because you insisted; its name says so.")
        self.ui.verdictLabel.text = f"<b>{html.escape(sentence)}</b>"
        items = "".join(f"<li>{html.escape(reason)}</li>" for reason in verdict.reasons)
        checks = "".join(f"<li>{html.escape(check.text)}</li>" for check in verdict.checks)
        self.ui.reasonsBrowser.setHtml(f"<ul>{items or checks}</ul>")
        self.ui.reasonsBrowser.setVisible(True)
        self._setFeatures(features)
        self._enableDisplay()

    def _setFeatures(self, features: FeatureTable | None) -> None:
        self._features = features
        combo = self.ui.featureStructureCombo
        combo.clear()
        for structure in features.structures() if features is not None else ():
            combo.addItem(structure)
        shown = features is not None and combo.count > 0
        for widget in (self.ui.featureStructureLabel, combo, self.ui.featureView):
            widget.setVisible(shown)
        self._onStructure()

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
            for column, text in enumerate((short, f"{before:.5g}", f"{after:.5g}", change(before, after))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip("\n".join(t for t in (name, about.description, about.unit) if t))
                if column:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                view.setItem(row, column, item)

    def _enableDisplay(self) -> None:
        for button in (self.ui.sideBySideButton, self.ui.checkerboardButton, self.ui.differenceButton):
            button.enabled = self._volumes is not None

    def _show(self, show) -> None:
        with slicer.util.tryWithErrorDisplay(_("The images could not be compared.")):
            show(*self._volumes)
