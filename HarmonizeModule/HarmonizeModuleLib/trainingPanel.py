"""The training section: which system, by which configuration; the run in a process of its own; curves and model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError, ModelError
from HarmonizeExtension.files.models import CARD, load_model
from HarmonizeExtension.files.writing import output_folder
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.scan import Modality, TargetKind
from HarmonizeExtension.training.start import CHECKPOINT, CURVES, MODEL, SYSTEMS, VALIDATION, write_sample

from . import display, trainingCurves
from .runFollower import RunFollower
from .trainingRun import TrainingRun

_CURVES_SECONDS = 2.0  # between two looks at its curves


def trainable() -> list[str]:
    """The systems that can be trained and whose models the panel can use."""
    methods = {card.name for card in catalogue.cards()}
    return [system for system in SYSTEMS if system in methods]


class TrainingPanel:
    """Keeps the choices in step with the parameter node, and follows the run.

    start: gives the run of a system with a configuration in a folder; raises InputError.
    """

    def __init__(self, ui, start: Callable[[str, Path, Path], TrainingRun]):
        self.ui, self._start = ui, start
        self._parameterNode = None
        self._modality: Modality | None = None
        self._follower = RunFollower(
            ui.trainingProgressBar,
            ui.trainingProgressLabel,
            failed=_("The network was not trained."),
            stopped=_("Stopped; Continue goes on from there."),
            ended=self._onEnded,
            changed=self._onRunning,
            looked=self._onLooked,
        )
        self._curvesSeen = 0.0
        self._model: tuple[tuple, tuple[str, ...] | None] | None = None
        self._filling = False
        for system in trainable():
            ui.trainingSystemCombo.addItem(catalogue.method(system).card.title, system)
        ui.trainingSystemCombo.connect("currentIndexChanged(int)", self._onSystem)
        ui.trainingFolderEdit.connect("currentPathChanged(QString)", self._onFolder)
        ui.trainingConfigEdit.connect("currentPathChanged(QString)", self._onConfig)
        ui.trainingEditButton.connect("clicked(bool)", self._onEdit)
        ui.trainingRunButton.connect("clicked(bool)", self._onRun)
        ui.trainingLossesButton.connect("clicked(bool)", lambda checked: self._onCurves(CURVES))
        ui.trainingValidationButton.connect("clicked(bool)", lambda checked: self._onCurves(VALIDATION))
        ui.trainingUseButton.connect("clicked(bool)", self._onUse)
        ui.trainingSection.connect("contentsCollapsed(bool)", lambda collapsed: self.refresh(self._modality))
        self._onRunning(False)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show; None when the scene closes, which stops the run."""
        self._parameterNode = parameterNode
        if parameterNode is None:
            self.stop()

    def refresh(self, modality: Modality | None) -> None:
        """Show what the parameter node says, and what lies in the folder; modality: of the scan to harmonize."""
        self._modality = modality
        p, ui = self._parameterNode, self.ui
        if p is None or ui.trainingSection.collapsed:
            return
        self._filling = True
        if p.trainingSystem not in trainable():
            p.trainingSystem = trainable()[0]
        ui.trainingSystemCombo.currentIndex = ui.trainingSystemCombo.findData(p.trainingSystem)
        for edit, path in ((ui.trainingFolderEdit, p.trainingFolder), (ui.trainingConfigEdit, p.trainingConfig)):
            if edit.currentPath != path:
                edit.currentPath = path
        self._filling = False
        self._showFolder()

    def stop(self) -> None:
        """Stop the run, where there is one; it writes a checkpoint and can be continued."""
        self._follower.stop()

    def cleanup(self) -> None:
        """The panel goes: the process stops at its next report by itself."""
        self._follower.cleanup()

    # ---------------------------------------------------------------- choices

    def _folder(self) -> Path:
        return Path(self._parameterNode.trainingFolder).absolute()

    def _config(self) -> Path:
        """The chosen configuration; where none is, one in the output folder that is named after the system."""
        p = self._parameterNode
        return Path(p.trainingConfig).absolute() if p.trainingConfig else self._folder() / f"{p.trainingSystem}.yaml"

    def _configWritten(self) -> Path:
        """The configuration, one to start from where there is none. Raises InputError, OutputError."""
        path = self._config()
        if not path.exists():
            output_folder(path.parent)
            write_sample(self._parameterNode.trainingSystem, path)
        self._parameterNode.trainingConfig = str(path)
        return path

    def _whyNot(self) -> str:
        p = self._parameterNode
        if not p.trainingFolder:
            return _("Choose an output folder")
        if p.trainingConfig and not self._config().is_file():
            return _("There is no configuration '{path}'; choose another, or none to start from").format(
                path=p.trainingConfig
            )
        return ""

    def _onSystem(self, index=None) -> None:
        """Another system has other settings: its configuration is another one."""
        p = self._parameterNode
        if p is not None and not self._filling and p.trainingSystem != self.ui.trainingSystemCombo.currentData:
            with slicer.util.NodeModify(p):
                p.trainingSystem, p.trainingConfig = self.ui.trainingSystemCombo.currentData, ""

    def _onFolder(self, path) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.trainingFolder = path

    def _onConfig(self, path) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.trainingConfig = path

    def _onEdit(self, checked=None) -> None:
        """The configuration in the program that the system opens such files with."""
        with slicer.util.tryWithErrorDisplay(_("The configuration could not be opened.")):
            path = self._configWritten()
            if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
                raise InputError(_("No program opens '{path}'; open it in a text editor").format(path=path))

    # ---------------------------------------------------------------- the run

    def _onRun(self, checked=None) -> None:
        """Start or continue; while it runs the same button stops."""
        if self._follower.run is not None:
            self.ui.trainingRunButton.enabled = False
            self._follower.stop(_("Stopping at the next report, with a checkpoint"))
        else:
            self._follower.start(self._begin, _("The training was not started."))
            if self._follower.run is not None:
                self._onCurves(CURVES)

    def _begin(self) -> TrainingRun:
        return self._start(self._parameterNode.trainingSystem, self._configWritten(), self._folder())

    def _onLooked(self, run: TrainingRun) -> None:
        if time.monotonic() - self._curvesSeen > _CURVES_SECONDS:
            self._curvesSeen = time.monotonic()
            trainingCurves.refresh(run.folder)

    def _onEnded(self, run: TrainingRun) -> str:
        trainingCurves.refresh(run.folder)
        answer = run.result()
        texts = {
            "stopped": _("Stopped after step {step}; Continue goes on from there."),
            "no better": _("Done: no better since step {best}. The model is in the output folder."),
            "finished": _("Done after {step} steps. The model is in the output folder."),
        }
        return texts[answer["ended"]].format(step=answer["step"], best=answer["best_step"])

    def _onRunning(self, running: bool) -> None:
        ui = self.ui
        for widget in (
            ui.trainingSystemCombo, ui.trainingFolderEdit, ui.trainingConfigEdit, ui.trainingEditButton
        ):  # fmt: skip
            widget.enabled = not running
        if running:
            ui.trainingRunButton.text = _("Stop")
            ui.trainingRunButton.toolTip = _("Stop at the next report; a checkpoint is written, and Continue goes on")
            ui.trainingRunButton.enabled = True
        self.refresh(self._modality)

    # ---------------------------------------------------------------- what lies in the folder

    def _showFolder(self) -> None:
        """Whether there is a training to continue, curves to show and a model to use."""
        ui, p = self.ui, self._parameterNode
        known = self._folder() if p.trainingFolder else None
        reason = self._whyNot()
        if self._follower.run is None:
            begun = known is not None and (known / CHECKPOINT).is_file()
            ui.trainingRunButton.text = _("Continue training") if begun else _("Start training")
            ui.trainingRunButton.enabled = not reason
            ui.trainingRunButton.toolTip = reason or (
                _("Go on from the checkpoint in the folder, as the configuration says")
                if begun
                else _("Train in a process of its own; it can be stopped and continued")
            )
        ui.trainingEditButton.enabled = self._follower.run is None and not reason
        for button, name in ((ui.trainingLossesButton, CURVES), (ui.trainingValidationButton, VALIDATION)):
            button.enabled = known is not None and (self._follower.run is not None or (known / name).is_file())
        sites = self._sites(known / MODEL, p.trainingSystem) if known and self._follower.run is None else None
        for widget in (ui.trainingModelLabel, ui.trainingSiteCombo, ui.trainingUseButton):
            widget.setVisible(sites is not None)
        ui.trainingSiteCombo.setVisible(bool(sites))
        combo = ui.trainingSiteCombo
        if [combo.itemText(i) for i in range(combo.count)] != list(sites or ()):
            combo.clear()
            combo.addItems(list(sites or ()))
        card = catalogue.method(p.trainingSystem).card
        fits = self._modality in (None, *card.modalities)
        ui.trainingUseButton.enabled = fits
        ui.trainingUseButton.toolTip = (
            _("Select this model and target in the method section")
            if fits
            else _("{method} is not for {modality}; choose another scan first").format(
                method=card.title, modality=self._modality.value
            )
        )

    def _sites(self, model: Path, system: str) -> tuple[str, ...] | None:
        """The sites of a model of the system, read anew only when it has changed; None where there is none."""
        card = model / CARD
        key = (str(model), system, card.stat().st_mtime_ns if card.is_file() else 0)
        if self._model is None or self._model[0] != key:
            try:
                found = load_model(model, system)[0].sites if key[2] else None
            except ModelError:
                found = None
            self._model = key, found
        return self._model[1]

    def _onCurves(self, name: str) -> None:
        with slicer.util.tryWithErrorDisplay(_("The curves could not be shown.")):
            display.showChart(trainingCurves.chartOf(self._folder() / name))

    def _onUse(self, checked=None) -> None:
        """The model becomes method and target of the scan above."""
        p, model = self._parameterNode, self._folder() / MODEL
        with slicer.util.NodeModify(p):
            p.method = p.trainingSystem
            if catalogue.method(p.method).card.target is TargetKind.MODEL:
                p.targetFolder = str(model)
            else:
                p.targetVolume = None  # it would say the target in place of the text
                site = self.ui.trainingSiteCombo.currentText
                p.targetText = f"{model}#{site}" if site else str(model)
        self.ui.methodSection.collapsed = False
