# ruff: noqa: N801 (the names are CTK's)
"""The `ctk` module: the few CTK widgets a panel uses, with the properties and signals of their C++ headers."""

import types

from PySide6.QtCore import Property, QSize, Qt, Signal, Slot
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QWidget,
)


class ctkCollapsibleButton(QAbstractButton):
    """A header that shows and hides the widgets laid out in it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *args):
        super().__init__(*[a for a in args if not isinstance(a, str)])
        if args and isinstance(args[0], str):
            self.text = args[0]
        self._hidden = []  # children that the collapse hid
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Minimum, QSizePolicy.Preferred)
        self.setContentsMargins(4, self._header() + 2, 4, 4)
        self.toggled.connect(self._onToggled)

    def _header(self):
        return max(22, self.fontMetrics().height() + 8)

    def _onToggled(self, opened):
        self._showChildren(opened)
        self.setMaximumHeight(16777215 if opened else self._header())
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def _showChildren(self, opened):
        for child in [c for c in self.findChildren(QWidget) if c.parent() is self]:
            if opened and child in self._hidden:
                child.setVisible(True)
            elif not opened and not child.isHidden():
                self._hidden.append(child)
                child.setVisible(False)
        if opened:
            self._hidden = []

    def showEvent(self, event):
        """Hide what was added while collapsed; not when it is added, for it is no more than a bare QWidget then."""
        super().showEvent(event)
        if not self.isChecked():
            self._showChildren(False)

    def sizeHint(self):
        opened = self.isChecked() and self.layout() is not None
        return self.layout().totalSizeHint() if opened else QSize(120, self._header())

    def minimumSizeHint(self):
        opened = self.isChecked() and self.layout() is not None
        return self.layout().totalMinimumSize() if opened else QSize(60, self._header())

    def hitButton(self, position):
        return position.y() < self._header()

    def paintEvent(self, event):
        painter = QStylePainter(self)
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._header())
        option.state |= QStyle.State_Sunken if self.isDown() else QStyle.State_Raised
        painter.drawPrimitive(QStyle.PE_PanelButtonCommand, option)
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect.setRect(6, (self._header() - 10) // 2, 10, 10)
        opened = self.isChecked()
        painter.drawPrimitive(QStyle.PE_IndicatorArrowDown if opened else QStyle.PE_IndicatorArrowRight, arrow)
        text = option.rect.adjusted(22, 0, -4, 0)
        painter.drawItemText(text, int(Qt.AlignLeft | Qt.AlignVCenter), self.palette, self.isEnabled(), self.text)
        if opened:
            painter.setPen(self.palette.mid().color())
            painter.drawRect(0, self._header() - 1, self.width - 1, self.height - self._header())

    @Slot(bool)
    def setCollapsed(self, value):
        self.setChecked(not value)

    collapsed = Property(bool, lambda self: not self.isChecked(), setCollapsed, notify=contentsCollapsed)


class ctkSliderWidget(QWidget):
    """A slider beside a spin box."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    _steps = 10000

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QSlider(Qt.Horizontal, self)
        self._slider.setRange(0, self._steps)
        self._spin = QDoubleSpinBox(self)
        self._spin.setRange(0, 99)
        self._spin.setKeyboardTracking(False)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._onSpin)
        self._slider.valueChanged.connect(self._onSlider)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)

    def _sync(self):
        low, span = self._spin.minimum, self._spin.maximum - self._spin.minimum
        self._slider.blockSignals(True)
        self._slider.setValue(round(self._steps * (self._spin.value - low) / span) if span > 0 else 0)
        self._slider.blockSignals(False)

    def _onSpin(self, value):
        self._sync()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _onSlider(self, position):
        low, high = self._spin.minimum, self._spin.maximum
        self._spin.setValue(low + (high - low) * position / self._steps)

    @Slot(float)
    def setValue(self, value):
        self._spin.setValue(value)

    @Slot(float, float)
    def setRange(self, low, high):
        self._spin.setRange(low, high)
        self._sync()

    def setMinimum(self, value):
        self.setRange(value, max(value, self._spin.maximum))

    def setMaximum(self, value):
        self.setRange(min(value, self._spin.minimum), value)

    def setDecimals(self, value):
        self._spin.setDecimals(value)

    def setSingleStep(self, value):
        self._spin.setSingleStep(value)

    value = Property(float, lambda self: self._spin.value, setValue)
    minimum = Property(float, lambda self: self._spin.minimum, setMinimum)
    maximum = Property(float, lambda self: self._spin.maximum, setMaximum)
    decimals = Property(int, lambda self: self._spin.decimals, setDecimals)
    singleStep = Property(float, lambda self: self._spin.singleStep, setSingleStep)
    suffix = Property(str, lambda self: self._spin.suffix, lambda self, text: self._spin.setSuffix(text))
    prefix = Property(str, lambda self: self._spin.prefix, lambda self, text: self._spin.setPrefix(text))


class ctkPathLineEdit(QWidget):
    """A line for a file or folder, with a button that browses."""

    currentPathChanged = Signal(str)
    Dirs, Files, Drives, Readable, Writable, Executable = 1, 2, 4, 0x10, 0x20, 0x40

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters, self._nameFilters, self._settingKey = self.Files, [], ""
        self._edit = QComboBox(self)
        self._edit.setEditable(True)
        self._edit.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._button = QToolButton(self)
        self._button.text = "..."
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._edit)
        layout.addWidget(self._button)
        self._edit.editTextChanged.connect(self.currentPathChanged.emit)
        self._button.clicked.connect(lambda: self.browse())

    @Slot()
    def browse(self):
        folder = self._filters & self.Dirs
        path = QFileDialog.getExistingDirectory(self) if folder else QFileDialog.getOpenFileName(self)[0]
        if path:
            self.setCurrentPath(path)

    @Slot(str)
    def setCurrentPath(self, path):
        self._edit.setEditText(path)

    @Slot()
    def addCurrentPathToHistory(self):
        if self._edit.findText(self._edit.currentText) < 0:
            self._edit.addItem(self._edit.currentText)

    def _setFilters(self, value):
        self._filters = int(value)

    def _setNameFilters(self, value):
        self._nameFilters = list(value)

    def _setSettingKey(self, value):
        self._settingKey = value

    currentPath = Property(str, lambda self: self._edit.currentText, setCurrentPath)
    filters = Property(int, lambda self: self._filters, _setFilters)
    nameFilters = Property("QStringList", lambda self: self._nameFilters, _setNameFilters)
    settingKey = Property(str, lambda self: self._settingKey, _setSettingKey)


class ctkComboBox(QComboBox):
    defaultText = Property(str, lambda self: self.placeholderText, lambda self, text: self.setPlaceholderText(text))


class _CheckableModel(QStandardItemModel):
    """Every item is checkable, unchecked at first."""

    def flags(self, index):
        return super().flags(index) | Qt.ItemIsUserCheckable

    def data(self, index, role=Qt.DisplayRole):
        value = super().data(index, role)
        return int(Qt.Unchecked) if role == Qt.CheckStateRole and value is None and index.isValid() else value


class ctkCheckableComboBox(QComboBox):
    """A combo box whose items carry check marks; clear() forgets them without a signal, as in CTK."""

    checkedIndexesChanged = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setModel(_CheckableModel(self))
        self._checked = []
        self.model().dataChanged.connect(self._onDataChanged)

    def _onDataChanged(self, *args):
        checked = [index.row() for index in self.checkedIndexes()]
        if checked != self._checked:
            self._checked = checked
            self.checkedIndexesChanged.emit()

    def checkableModel(self):
        return self.model()

    def checkedIndexes(self):
        indexes = [self.model().index(row, 0) for row in range(self.count)]
        return tuple(index for index in indexes if self.checkState(index) == Qt.Checked)

    def checkState(self, index):
        return Qt.CheckState(int(self.model().data(index, Qt.CheckStateRole)))

    def setCheckState(self, index, state):
        self.model().setData(index, int(state), Qt.CheckStateRole)

    def allChecked(self):
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self):
        return not self.checkedIndexes()

    def paintEvent(self, event):
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        texts = [self.itemText(index.row()) for index in self.checkedIndexes()]
        option.currentText = "None" if not texts else "All" if self.allChecked() else ", ".join(texts)
        painter.drawComplexControl(QStyle.CC_ComboBox, option)
        painter.drawControl(QStyle.CE_ComboBoxLabel, option)


WIDGETS = [value for name, value in list(globals().items()) if name.startswith("ctk")]


def absent(name, base, where):
    """A class that may be named, as in `type(widget) in (...)`, but not made."""

    def refuse(self, *args, **kwargs):
        raise NotImplementedError(f"{name} has no stand-in; write one in {where}")

    return type(name, (base,), {"__init__": refuse, "__module__": __name__})


def module():
    """The module that `import ctk` gives."""
    ctk = types.ModuleType("ctk")
    for widget in WIDGETS:
        setattr(ctk, widget.__name__, widget)

    def missing(name):
        if not name.startswith("ctk"):
            raise AttributeError(f"module 'ctk' has no attribute '{name}'")
        setattr(ctk, name, absent(name, QWidget, "Testing/harness/ctkwidgets.py"))
        return getattr(ctk, name)

    ctk.__getattr__ = missing
    return ctk
