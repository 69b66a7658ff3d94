"""Make PySide6 behave like PythonQt (commontk/PythonQt 4), for the whole process: `apply()`.

- Every Qt property is a plain attribute (the getter of the same name is hidden); setters and isX() stay calls.
- obj.name is the objectName; a child is an attribute by its objectName; dynamic properties are attributes.
- obj.connect("clicked(bool)", fn) and obj.disconnect(...); fn gets no more arguments than it takes.
- A new attribute on a plain Qt object raises AttributeError.
- obj.className(), obj.delete(); enum values compare equal to ints.
- A dialog that would wait for the user raises RuntimeError.
"""

import ctypes
import enum
import re
import sys
import types
import weakref

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

CXX_MODULES = ("PySide6", __package__)  # classes from here stand for C++ classes
_connections = []  # (weak reference to the object, signature, callable, wrapper)
_qobjectConnect = QtCore.QObject.connect
_qobjectDisconnect = QtCore.QObject.disconnect


def apply():
    """Patch every QObject class of PySide6; calling it again changes nothing."""
    if hasattr(QtCore.QObject, "className"):
        return
    _makeNoneLast()
    modules = (QtCore, QtGui, QtWidgets, QtUiTools)
    everything = [getattr(module, name) for module in modules for name in dir(module)]  # vars() is lazy in PySide6
    classes = {c for c in everything if isinstance(c, type) and issubclass(c, QtCore.QObject)}
    classes = [c for c in classes if "staticMetaObject" in dir(c)]
    for cls in sorted(classes, key=lambda c: len(c.__mro__)):
        _patchClass(cls)
        if hasattr(cls, "exec") and not hasattr(cls, "exec_"):  # the Qt 5 name that modules use
            cls.exec_ = cls.exec
    for holder in everything:
        for value in vars(holder).values() if isinstance(holder, type) else ():
            if isinstance(value, enum.EnumMeta) and not issubclass(value, int):
                value.__int__ = lambda self: self.value
                value.__eq__ = lambda self, other: self.value == getattr(other, "value", other)
                value.__hash__ = lambda self: hash(self.value)
    QtCore.QObject.name = _Name()
    QtCore.QObject.className = lambda self: self.metaObject().className()
    QtCore.QObject.delete = lambda self: shiboken6.delete(self)
    QtCore.QObject.__bool__ = lambda self: shiboken6.isValid(self)
    _forbidModalDialogs()


def _makeNoneLast():
    """PySide6 6.12 gives None back without a reference, as if it were immortal; before Python 3.12 they would run out.

    Each call that returns nothing takes one, and with the last one the interpreter aborts.
    """
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


def _forbidModalDialogs():
    def blocked(*args, **kwargs):
        raise RuntimeError("a dialog would wait for the user here; replace the call in the test")

    for cls, names in (
        (QtWidgets.QDialog, ("exec", "exec_")),
        (QtWidgets.QMessageBox, ("exec", "exec_", "about", "critical", "information", "question", "warning")),
        (QtWidgets.QFileDialog, ("getExistingDirectory", "getOpenFileName", "getOpenFileNames", "getSaveFileName")),
        (QtWidgets.QInputDialog, ("getDouble", "getInt", "getItem", "getText")),
    ):
        for name in names:
            setattr(cls, name, staticmethod(blocked))


class PythonQtProperty:
    """A Qt property as an attribute of instances; the class still gives the original (static) method."""

    def __init__(self, name, original, getter, writable, typeName):
        self.name, self.original, self.getter, self.writable, self.typeName = name, original, getter, writable, typeName

    def __get__(self, obj, cls=None):
        if obj is None:
            return self.original.__get__(None, cls) if self.original is not None else self
        value = self.getter(obj) if self.getter is not None else QtCore.QObject.property(obj, self.name)
        return tuple(value) if isinstance(value, list) else value  # a QStringList comes as a tuple

    def __set__(self, obj, value):
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {type(obj).__name__} object is not writable")
        if not QtCore.QObject.setProperty(obj, self.name, self._converted(value)):
            raise AttributeError(
                f"Property '{self.name}' of type '{self.typeName}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            )

    def _converted(self, value):
        """numpy scalars pass, a float is cut for an int property, anything turns into a QString."""
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, tuple):
            return list(value)
        if self.typeName == "QString":
            return str(value)
        return int(value) if self.typeName == "int" and isinstance(value, float) else value


class _Name:
    def __get__(self, obj, cls=None):
        return self if obj is None else QtCore.QObject.property(obj, "objectName")

    def __set__(self, obj, value):
        QtCore.QObject.setProperty(obj, "objectName", value)


def _patchClass(cls):
    meta = cls.staticMetaObject
    for i in range(meta.propertyCount()):
        prop = meta.property(i)
        name, own = prop.name(), i >= meta.propertyOffset()
        original = cls.__dict__.get(name)
        if isinstance(original, (PythonQtProperty, property)) or (original is None and not own) or name == "singleShot":
            continue  # QTimer.singleShot stays a function there; an instance has setSingleShot()
        if original is not None and not own and name not in ("sizeHint", "minimumSizeHint") and not callable(original):
            continue
        getter = None
        if original is not None and not isinstance(original, staticmethod):

            def getter(self, _method=original):
                return _method.__get__(self, type(self))()

        setattr(cls, name, PythonQtProperty(name, original, getter, prop.isWritable(), prop.typeName()))
    if "__getattribute__" in cls.__dict__:  # per class: QFile and others hard-wire further names
        cls.__getattribute__ = _getattribute(cls.__dict__["__getattribute__"])
        cls.__getattr__ = _getattr
    if cls is not QtCore.QObject:  # CPython refuses to call QObject's C slot once it is replaced
        cls.__setattr__ = _setattr


def _setattr(self, key, value):
    cls, plain = type(self), QtCore.QObject.__setattr__
    properties = (PythonQtProperty, QtCore.Property, property, _Name)
    if any(isinstance(base.__dict__.get(key), properties) for base in cls.__mro__):
        plain(self, key, list(value) if isinstance(value, tuple) else value)  # Property("QStringList") ignores a tuple
    elif QtCore.QObject.property(self, key) is not None and not hasattr(cls, key):
        QtCore.QObject.setProperty(self, key, value)  # a dynamic property
    elif isinstance(value, (QtCore.SignalInstance, types.BuiltinFunctionType)):
        plain(self, key, value)  # PySide6 keeps what it looked up on the object
    elif isinstance(value, QtCore.QObject) and QtCore.QObject.property(value, "objectName") == key:
        pass  # QUiLoader offers every descendant by its name; _getattr finds children without that
    elif cls.__module__.startswith(CXX_MODULES) and not key.startswith("_"):
        raise AttributeError(
            f"Signal or slot '{key}' can not be overwritten on {cls.__name__} object"
            if hasattr(cls, key)
            else f"'{key}' does not exist on {cls.__name__} and creating new attributes on C++ objects is not allowed"
        )
    else:
        plain(self, key, value)


def _getattribute(original):
    def lookup(self, key):
        if key == "connect":  # PySide6 hard-wires these two in C and never looks at a class attribute
            return types.MethodType(_connect, self)
        if key == "disconnect":
            return types.MethodType(_disconnect, self)
        return original(self, key)

    return lookup


def _getattr(self, key):
    """Where the normal lookup failed: a dynamic property, then a child by its objectName."""
    if not key.startswith("_") and shiboken6.isValid(self):
        value = QtCore.QObject.property(self, key)
        if value is not None:
            return value
        for child in QtCore.QObject.children(self):
            if QtCore.QObject.property(child, "objectName") == key:
                return child
        if key.endswith("_") and hasattr(type(self), key[:-1]):
            return getattr(self, key[:-1])
    raise AttributeError(f"{type(self).__name__} has no attribute named '{key}'")


def _withoutSurplus(fn):
    """`fn`, called with as many arguments as it takes; only plain functions and bound methods are counted."""
    function = fn.__func__ if isinstance(fn, types.MethodType) else fn
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & 0x04:  # 0x04: takes *args
        return lambda *args: fn(*args)
    count = function.__code__.co_argcount - isinstance(fn, types.MethodType)
    return lambda *args: fn(*args[:count])


def _normalized(signature):
    """A signature as the meta object knows it; VTK pointers travel as PyObject in PySide6."""
    signature = re.sub(r"\bvtk\w+\s*\*", "PyObject", signature)
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def _connect(self, signal, *target):
    if not isinstance(signal, str):
        return _qobjectConnect(self, signal, *target)
    signature = _normalized(signal)
    if self.metaObject().indexOfSignal(signature) < 0:  # PythonQt only prints this
        raise RuntimeError(f"QObject::connect() signal '{signal}' does not exist on {self.metaObject().className()}")
    if len(target) >= 2 and isinstance(target[1], str):  # connect(signal, receiver, "slot()")
        return bool(_qobjectConnect(self, "2" + signature, target[0], "1" + _normalized(target[1])))
    wrapper = _withoutSurplus(target[0])
    _connections.append((weakref.ref(self), signature, target[0], wrapper))
    return bool(_qobjectConnect(self, "2" + signature, wrapper))


def _disconnect(self, signal=None, *target):
    if not isinstance(signal, str):
        return _qobjectDisconnect(self, *([] if signal is None else [signal]), *target)
    signature = _normalized(signal)
    found = False
    for item in list(_connections):
        if item[0]() is self and item[1] == signature and (not target or item[2] == target[0]):
            _qobjectDisconnect(self, "2" + signature, item[3])
            _connections.remove(item)
            found = True
            if target:
                break
    return found
