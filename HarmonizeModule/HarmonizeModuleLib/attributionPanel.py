"""The attribution section: a question about the scan or its change, a map over the scan, and what the map is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import ModelError
from HarmonizeExtension.explain import catalogue
from HarmonizeExtension.explain.feature_change import feature_names
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality

from . import attributionRun, scene
from .attributionRun import AttributionRun
from .runFollower import RunFollower

_LIKELIEST = _("the likeliest")  # of the scanners that the classifier knows


class AttributionPanel:
    """Keeps the choices in step with the parameter node, and follows the run.

    start: gives the run of the chosen options; raises InputError.
    """

    def __init__(self, ui, start: Callable[[Mapping[str, str]], AttributionRun]):
        self.ui, self._start = ui, start
        self._parameterNode = None
        self._modality: Modality | None = None
        self._follower = RunFollower(
            ui.attributionProgressBar,
            ui.attributionProgressLabel,
            failed=_("The map was not computed."),
            stopped=_("Stopped; nothing was written."),
            ended=self._onEnded,
            changed=self._onRunning,
        )
        self._filling = False
        for question in catalogue.QUESTIONS:
            ui.attributionQuestionCombo.addItem(_(question.title), question.name)
        for name in ("Question", "Structure", "Feature", "Site", "Method"):
            combo = getattr(ui, f"attribution{name}Combo")
            combo.connect("currentIndexChanged(int)", self._onChoice)
        ui.attributionModelEdit.connect("currentPathChanged(QString)", self._onChoice)
        ui.attributionThresholdSlider.connect("valueChanged(double)", self._onThreshold)
        ui.attributionRunButton.connect("clicked(bool)", self._onRun)
        ui.attributionSection.connect("contentsCollapsed(bool)", lambda collapsed: self.refresh(self._modality))
        self._onRunning(False)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show; None when the scene closes, which stops the run."""
        self._parameterNode = parameterNode
        if parameterNode is None:
            self.stop()
            self._follower.outcome = ""

    def refresh(self, modality: Modality | None) -> None:
        """Show what the parameter node says; modality: of the scan to harmonize."""
        self._modality = modality
        p, ui = self._parameterNode, self.ui
        if p is None or ui.attributionSection.collapsed:
            return
        self._filling = True
        question = self._question()
        ui.attributionQuestionCombo.currentIndex = ui.attributionQuestionCombo.findData(question.name)
        names = scene.segmentNames(p.segmentation)
        _fill(ui.attributionStructureCombo, names.values(), p.attributionStructure)
        _fill(ui.attributionFeatureCombo, self._features(), p.attributionFeature)
        methods = {method.title: method.name for method in catalogue.methods_for(question)}
        titles = {name: title for title, name in methods.items()}
        _fill(ui.attributionMethodCombo, methods, titles.get(p.attributionMethod, ""))
        ui.attributionMethodCombo.toolTip = catalogue.map_method(methods[ui.attributionMethodCombo.currentText]).summary
        if ui.attributionModelEdit.currentPath != p.attributionModel:
            ui.attributionModelEdit.currentPath = p.attributionModel
        _fill(ui.attributionSiteCombo, self._sites(), p.attributionSite)
        for widgets, shown in (
            ((ui.attributionStructureLabel, ui.attributionStructureCombo), question.name == "feature"),
            ((ui.attributionFeatureLabel, ui.attributionFeatureCombo), question.name == "feature"),
            ((ui.attributionModelLabel, ui.attributionModelEdit), bool(question.needs)),
            ((ui.attributionSiteLabel, ui.attributionSiteCombo), question.of_network),
            ((ui.attributionMethodLabel, ui.attributionMethodCombo), question.of_network),
        ):
            for widget in widgets:
                widget.setVisible(shown)
        found = self._map()
        for widget in (ui.attributionThresholdLabel, ui.attributionThresholdSlider):
            widget.setVisible(found is not None)
        if found is not None:
            ui.attributionThresholdSlider.value = 100 * attributionRun.threshold(found)
        self._filling = False
        if self._follower.run is None:
            reason = self._whyNot()
            ui.attributionRunButton.enabled = not reason
            ui.attributionRunButton.toolTip = reason or _("Compute the map in a process of its own, and check it")
            # A map that comes with the scene says what it is worth as well.
            self._follower.say(self._follower.outcome or (found.GetDescription() if found is not None else ""))

    def stop(self) -> None:
        """Stop the run, where there is one."""
        self._follower.stop()

    def cleanup(self) -> None:
        """The panel goes: the process stops at its next step by itself."""
        self._follower.cleanup()

    # ---------------------------------------------------------------- choices

    def _question(self) -> catalogue.Question:
        chosen = self._parameterNode.attributionQuestion
        return next((q for q in catalogue.QUESTIONS if q.name == chosen), catalogue.QUESTIONS[0])

    def _features(self) -> list[str]:
        """The features that can be asked about: those of the settings above."""
        settings = self._parameterNode.settings or (self._modality.value.lower() if self._modality else "")
        return feature_names(Settings.load(settings)) if settings else []

    def _sites(self) -> list[str]:
        """The sites of the chosen model; none where it is no model for the question."""
        folder, question = self._parameterNode.attributionModel, self._question()
        if not folder or not question.of_network:
            return []
        try:
            sites = catalogue.model_of(question, Path(folder))[0].sites
        except ModelError:
            return []
        return [_LIKELIEST, *sites] if question.name == "scanner" else list(sites)

    def _method(self) -> str:
        """The name of the method that is shown."""
        title = self.ui.attributionMethodCombo.currentText
        return next((method.name for method in catalogue.METHODS if method.title == title), "")

    def _map(self):
        """The map that lies over the scan, or None."""
        scan = self._parameterNode.inputVolume
        return scan.GetNodeReference(f"{scene.MAP_ATTRIBUTE}.{attributionRun.ATTRIBUTION}") if scan else None

    def _whyNot(self) -> str:
        p, question = self._parameterNode, self._question()
        if p.inputVolume is None or self._modality is None:
            return _("Choose a scan above")
        if not question.of_network and p.outputVolume is None:
            return _("Harmonize the scan first; the map says what moved between before and after")
        if not question.of_network and not self.ui.attributionStructureCombo.count:
            return _("Choose a segmentation above; features are those of a structure")
        if question.needs and not p.attributionModel:
            return _("Choose the folder of {what}").format(what=_(question.needs))
        return ""

    def _onChoice(self, given=None) -> None:
        p, ui = self._parameterNode, self.ui
        if p is None or self._filling:
            return
        with slicer.util.NodeModify(p):
            p.attributionQuestion = ui.attributionQuestionCombo.currentData
            p.attributionStructure = ui.attributionStructureCombo.currentText
            p.attributionFeature = ui.attributionFeatureCombo.currentText
            p.attributionModel = ui.attributionModelEdit.currentPath
            p.attributionSite = ui.attributionSiteCombo.currentText
            p.attributionMethod = self._method()
        self.refresh(self._modality)

    def _onThreshold(self, percent) -> None:
        found = self._map() if self._parameterNode is not None else None
        if found is not None and not self._filling:
            attributionRun.setThreshold(found, percent / 100)

    # ---------------------------------------------------------------- the run

    def _options(self) -> dict[str, str]:
        """What `harmonize explain` is asked."""
        p, ui, question = self._parameterNode, self.ui, self._question()
        options = {"question": question.name}
        if question.of_network:
            site = ui.attributionSiteCombo.currentText
            options |= {"method": self._method(), "site": "" if site == _LIKELIEST else site}
        if question.name == "feature":
            options["structure"] = ui.attributionStructureCombo.currentText
            options |= {"feature": ui.attributionFeatureCombo.currentText, "settings": p.settings}
        if question.needs:
            options["model"] = str(Path(p.attributionModel).absolute())
        return options

    def _onRun(self, checked=None) -> None:
        """Start; while it runs the same button stops."""
        if self._follower.run is not None:
            self.ui.attributionRunButton.enabled = False
            self._follower.stop(_("Stopping; nothing will be written"))
        else:
            self._follower.start(lambda: self._start(self._options()), _("The map was not computed."))

    def _onEnded(self, run: AttributionRun) -> str:
        """The map comes over its scan."""
        volume, worth = run.result()
        scan = volume.GetNodeReference(scene.SOURCE_REFERENCE)
        attributionRun.show(scan, volume, self._parameterNode.segmentation if self._parameterNode else None)
        return worth

    def _onRunning(self, running: bool) -> None:
        ui = self.ui
        for name in ("QuestionCombo", "StructureCombo", "FeatureCombo", "ModelEdit", "SiteCombo", "MethodCombo"):
            getattr(ui, f"attribution{name}").enabled = not running
        ui.attributionRunButton.text = _("Stop") if running else _("Show where")
        if running:
            ui.attributionRunButton.toolTip = _("Stop; nothing is written")
            ui.attributionRunButton.enabled = True
        self.refresh(self._modality)


def _fill(combo, texts, current: str) -> None:
    """Fill a combo box with texts; the current one is chosen if it is among them, else the first."""
    texts = list(texts)
    if [combo.itemText(i) for i in range(combo.count)] != texts:
        combo.clear()
        combo.addItems(texts)
    if texts:
        combo.currentIndex = texts.index(current) if current in texts else 0
