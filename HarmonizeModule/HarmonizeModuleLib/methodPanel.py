"""The method section: what fits the modality, from the catalogue, and the target that the method asks for."""

import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError, ModelError
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.base import MethodCard
from HarmonizeExtension.methods.phycharm.harmonizer import Phycharm
from HarmonizeExtension.methods.phycharm.protocols import EXAMPLE as PROTOCOL_EXAMPLE
from HarmonizeExtension.methods.phycharm.protocols import ProtocolTarget
from HarmonizeExtension.methods.site_model import SiteModel
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.ct_kernel import GENERIC_KERNELS
from HarmonizeExtension.scan import Modality, TargetKind

from .logic import VOLUME_TARGETS
from .sceneScans import drawnOn, segmentationOf

TEXT_TARGETS = {  # label, tool tip
    TargetKind.KERNEL: (
        _("or kernel:"),
        _(
            "A generic kernel, or one of the model's, where there is no reference scan of the wanted one. For your own "
            "model: model folder#kernel."
        ),
    ),
    TargetKind.RESOLUTION: (
        _("or FWHM (mm):"),
        _("The wanted resolution, where there is no reference scan; the phantoms of the scanners to match tell it."),
    ),
    TargetKind.SITE: (
        _("Scanner:"),
        _("One of the scanners or centres that the model was trained on. For your own model: model folder#scanner."),
    ),
    TargetKind.PROTOCOL: (
        _("or protocol:"),
        _(
            "Times in ms, angle in degrees, field in tesla: {example}. For your own model: model folder#protocol."
        ).format(example=PROTOCOL_EXAMPLE),
    ),
}


def _offered(card: MethodCard) -> tuple[str, ...]:
    """What can be chosen as target in words; anything else can be typed."""
    method = catalogue.method(card.name)
    if issubclass(method, SiteModel):
        try:
            return method.sites()
        except (InputError, ModelError):  # none ships with this installation
            return ()
    return {
        TargetKind.KERNEL: tuple(GENERIC_KERNELS),
        TargetKind.RESOLUTION: ("6", "7", "8"),
        TargetKind.PROTOCOL: tuple(SCANNERS),
    }[card.target]


class MethodPanel:
    """Keeps the method box and the target's widgets in step with the parameter node and the modality."""

    def __init__(self, ui):
        self.ui = ui
        self._parameterNode = None
        self._targetVolume = None
        self._filling = False
        ui.targetTextCombo.lineEdit().setPlaceholderText(_("choose or type"))
        ui.targetTextCombo.connect("editTextChanged(QString)", self._onText)
        ui.methodCombo.connect("currentIndexChanged(int)", self._onMethod)
        ui.targetFolderEdit.connect("currentPathChanged(QString)", self._onFolder)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show; None when the scene closes."""
        self._parameterNode = parameterNode
        self._targetVolume = parameterNode.targetVolume if parameterNode else None

    def refresh(self, modality: Modality | None) -> None:
        """Offer the methods that fit the modality (all where it is not known yet) and ask for the method's target."""
        p = self._parameterNode
        if p is None:
            return
        if p.targetVolume is not self._targetVolume:
            self._onTargetVolume(p)
        self._filling = True
        combo, cards = self.ui.methodCombo, catalogue.cards(modality)
        if [combo.itemData(i) for i in range(combo.count)] != [card.name for card in cards]:
            combo.clear()
            for card in cards:
                combo.addItem(card.title, card.name)
        if p.method not in [card.name for card in cards]:
            self._setMethod(p, cards[0].name)
        combo.currentIndex = combo.findData(p.method)
        self.ui.targetFolderEdit.currentPath = p.targetFolder
        self._showTarget(self.card(), modality)
        self._filling = False

    def card(self) -> MethodCard:
        """The card of the chosen method."""
        return catalogue.method(self._parameterNode.method).card

    def target(self) -> object:
        """What was chosen as target, as the logic's `process` takes it; None where nothing is."""
        p, kind = self._parameterNode, self.card().target
        if kind is TargetKind.MODEL:
            return p.targetFolder or None
        if kind in VOLUME_TARGETS and p.targetVolume is not None:
            return p.targetVolume
        return p.targetText.strip() or None if kind in TEXT_TARGETS else None

    def sourceAndModel(self) -> tuple:
        """The protocol of the scan and the model, where they were typed with the target; None for each that was not.

        Raises InputError for a target that makes no sense.
        """
        target = self.target()
        typed = ProtocolTarget.from_text(target) if isinstance(target, str) else None
        return (typed.source, typed.model) if typed else (None, None)

    def missing(self, inputVolume=None) -> str:
        """What still has to be chosen to harmonize a scan, or any, as a sentence; empty when nothing is."""
        p, card = self._parameterNode, self.card()
        if card.target is TargetKind.NONE:
            return ""
        if self.target() is None:
            wanted = {
                TargetKind.SCAN: _("Choose a reference scan"),
                TargetKind.MODEL: _("Choose a model folder"),
                TargetKind.KERNEL: _("Choose a reference scan or a kernel"),
                TargetKind.RESOLUTION: _("Choose a reference scan or a resolution in mm"),
                TargetKind.SITE: _("Choose a scanner"),
                TargetKind.PROTOCOL: _("Choose a reference scan or a protocol"),
            }
            return wanted[card.target]
        if card.target in VOLUME_TARGETS and p.targetVolume is inputVolume and inputVolume is not None:
            return _("The reference scan is the scan itself; choose another one")
        if card.target is TargetKind.SCAN and p.referenceSegment and p.targetSegmentation is None:
            return _("Choose the segmentation of the reference scan, or mark no reference structure")
        return ""

    def _showTarget(self, card: MethodCard, modality: Modality | None) -> None:
        p, ui = self._parameterNode, self.ui
        hint = _("Reference structure: {hint}.").format(hint=card.reference) if card.reference else ""
        ui.summaryLabel.text = f"{_(card.summary)} {hint}\n{card.citation}"
        shown = {
            "targetVolume": card.target in VOLUME_TARGETS,
            "targetSegmentation": card.target in VOLUME_TARGETS and bool(p.referenceSegment),
            "targetFolder": card.target is TargetKind.MODEL,
            "targetText": card.target in TEXT_TARGETS,
        }
        widgets = {
            "targetVolume": (ui.targetVolumeLabel, ui.targetVolumeSelector),
            "targetSegmentation": (ui.targetSegmentationLabel, ui.targetSegmentationSelector),
            "targetFolder": (ui.targetFolderLabel, ui.targetFolderEdit),
            "targetText": (ui.targetTextLabel, ui.targetTextCombo),
        }
        for name, pair in widgets.items():
            for widget in pair:
                widget.setVisible(shown[name])
        if card.target in TEXT_TARGETS:
            self._showText(p, *TEXT_TARGETS[card.target], _offered(card))
        ui.mapsButton.setVisible(card is Phycharm.card)
        isMR = modality in (None, Modality.MR) and card.name != "n4"
        for widget in (ui.biasLabel, ui.biasCheckBox):
            widget.setVisible(isMR)

    def _showText(self, p, label: str, toolTip: str, offered: tuple[str, ...]) -> None:
        combo = self.ui.targetTextCombo
        self.ui.targetTextLabel.text = label
        if [combo.itemText(i) for i in range(combo.count)] != ["", *offered]:
            combo.clear()
            combo.addItems(["", *offered])
        if combo.currentText != p.targetText:
            combo.setEditText(p.targetText)
        combo.enabled = p.targetVolume is None
        combo.toolTip = toolTip if combo.enabled else _("The reference scan says it; choose none there to type it.")

    def _onTargetVolume(self, p) -> None:
        """Another reference scan: its own segmentation goes with it."""
        self._targetVolume = p.targetVolume
        known = p.targetSegmentation
        if p.targetVolume is not None and (known is None or drawnOn(known) not in (None, p.targetVolume)):
            p.targetSegmentation = segmentationOf(p.targetVolume)

    def _onText(self, text) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.targetText = text

    def _onMethod(self, index=None) -> None:
        if self._parameterNode is not None and not self._filling and self.ui.methodCombo.currentIndex >= 0:
            self._setMethod(self._parameterNode, self.ui.methodCombo.currentData)

    @staticmethod
    def _setMethod(p, name: str) -> None:
        """Another method; what was typed for one kind of target means nothing for another."""
        with slicer.util.NodeModify(p):
            if p.targetText and catalogue.method(name).card.target is not catalogue.method(p.method).card.target:
                p.targetText = ""
            p.method = name

    def _onFolder(self, path) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.targetFolder = path
