"""What an exception in a student's code means: the mistake's name, the message, and the student's own line."""
from __future__ import annotations

import dis
import linecache
import os
from types import CodeType
from typing import Any, List, Optional, Tuple

import numpy

# what MXNet, Gluon and Python say, and the mistake behind it
MEANINGS = (
    ('already in a computational graph', 'WritesWhileRecording'), ('Inplace operations', 'WritesWhileRecording'),
    # not 'broadcast' alone, which is in the names of operators
    ('could not be broadcast', 'WrongShape'), ('is not broadcastable', 'WrongShape'),
    ('Broadcasting axis', 'WrongShape'), ('is incompatible with given shape', 'WrongShape'),
    ("has no attribute '_params'", 'NoSuperInit'), ("has no attribute '_children'", 'NoSuperInit'),
    ("has no attribute '_reg_params'", 'NoSuperInit'),
    ('Changing attribute type for', 'ReplacesParameter'), ('gluon.parameter.Parameter', 'ParameterNotArray'),
    ("'Parameter'", 'ParameterNotArray'),
    ("'NDArray' object has no attribute", 'NotInMXNet'), ("module 'mxnet.ndarray", 'NotInMXNet'),
    ("for @: 'NDArray'", 'NotInMXNet'),
    # NumPy, given an array of mx.nd, takes it apart as if it were nested lists without end
    ('maximum number of dimension', 'NotInMXNet'), ('ufunc', 'NotInMXNet'),
    ("type <class 'numpy.ndarray'> not supported", 'NotInMXNet'), ('must have NDArray type, but got [', 'NotInMXNet'))
NUMPY = os.path.dirname(numpy.__file__) + os.sep
# where the student's code is called from: a TypeError that ends there came of the call itself
CALLERS = (os.path.dirname(__file__) + os.sep, os.path.join('gluon', 'block.py'))
# a function of these alone computes nothing: pass, ..., or only the return that the exercise gives
IDLE = {'RESUME', 'NOP', 'LOAD_CONST', 'LOAD_FAST', 'LOAD_GLOBAL', 'BUILD_TUPLE', 'RETURN_VALUE', 'RETURN_CONST'}

Frame = Tuple[CodeType, int]  # with the line number


class Trouble(Exception):
    """A mistake of the code under test that ends a trial: its name, and what was seen."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f'{name}: {text}')
        self.name, self.text = name, text


def is_empty(code: Any) -> bool:
    """Whether a function has nothing in it that computes, as `pass` or `...`."""
    code = getattr(code, '__code__', code)
    return hasattr(code, 'co_code') and all(step.opname in IDLE for step in dis.get_instructions(code))


def not_written(code: Any, line: str = '') -> Trouble:
    return Trouble('NotWritten', f'{getattr(code, "co_name", "") or code.__name__} holds no code of yours yet{line}')


def remember(error: Exception, during: str) -> None:
    """Note what the code was doing when it raised `error`, for the message of its Trouble."""
    vars(error)['during'] = during


def trouble(error: BaseException, file: Optional[str]) -> Trouble:
    """The Trouble that an exception stands for; `file` is the student's, as frames name it."""
    if isinstance(error, Trouble):
        return error
    frames: List[Frame] = []
    step = error.__traceback__
    while step is not None:
        frames.append((step.tb_frame.f_code, step.tb_lineno))
        step = step.tb_next
    own = next((frame for frame in reversed(frames) if frame[0].co_filename == file), None)
    line = '' if own is None else place(*own)
    if isinstance(error, SystemExit):
        return Trouble('CallsExit', f'the code ends the whole program{line}')
    if isinstance(error, NotImplementedError) or (isinstance(error, NameError) and own and is_empty(own[0])):
        return not_written(frames[-1][0], f' (line {own[1]})' if own else '')
    name = _name(error, frames, own)
    text = f'{type(error).__name__}: {_message(error)}'
    if name == 'WritesWhileRecording':
        text = 'MXNet refuses to write into an array that takes part in a gradient'
    if 'maximum number of dimension' in text:
        text = 'NumPy does not know arrays of mx.nd'
    return Trouble(name, f'{getattr(error, "during", "")}{text}{line}')


def place(code: CodeType, number: int) -> str:
    """' (line 3: return Y)': where in the student's own file it happened."""
    source = linecache.getline(code.co_filename, number).strip()
    return f' (line {number}' + (f': {source}' if source else '') + ')'


def _message(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ['']
    if len(lines) > 1 and 'Check failed' in lines[-1]:  # MXNet's own C++ position tells a student nothing
        lines[0] = lines[-1].split(': ', 3)[-1]
    text = lines[0].replace(f'{type(error).__name__}: ', '', 1)  # MXNet says it twice
    return text if len(text) < 300 else text[:300] + '...'


def _name(error: BaseException, frames: List[Frame], own: Optional[Frame]) -> str:
    if isinstance(error, RecursionError):
        return 'CallsItself'
    last = frames[-1][0].co_filename
    if isinstance(error, TypeError) and 'argument' in str(error) and any(caller in last for caller in CALLERS):
        return 'WrongArguments'
    meant = next((name for words, name in MEANINGS if words in str(error)), None)
    if meant is None and own is not None and any(NUMPY in code.co_filename for code, _ in frames[frames.index(own):]):
        return 'NotInMXNet'
    return meant or 'RaisesException'
