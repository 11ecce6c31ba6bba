"""Turns an exception in a student's code into the mistake behind it."""

from __future__ import annotations

import dis
import linecache
import os
import traceback
from types import CodeType
from typing import Any, List, Optional, Tuple

import numpy

from ..result import StudentError

# parts of the messages of MXNet, Gluon and Python, by mistake
MISTAKE_TO_MESSAGES = {
    'WritesWhileRecording': ('already in a computational graph', 'Inplace operations'),
    # not 'broadcast' alone, which is in the names of operators
    'WrongShape': (
        'could not be broadcast',
        'is not broadcastable',
        'Broadcasting axis',
        'is incompatible with given shape',
    ),
    'NoSuperInit': ("has no attribute '_params'", "has no attribute '_children'", "has no attribute '_reg_params'"),
    'ReplacesParameter': ('Changing attribute type for',),
    'ParameterNotArray': ('gluon.parameter.Parameter', "'Parameter'"),
    'NotInMXNet': (
        "'NDArray' object has no attribute",
        "module 'mxnet.ndarray",
        "for @: 'NDArray'",
        # NumPy treats an array of mx.nd as endlessly nested lists
        'maximum number of dimension',
        'ufunc',
        "type <class 'numpy.ndarray'> not supported",
        'must have NDArray type, but got [',
    ),
}
NUMPY_FILES = os.path.dirname(numpy.__file__) + os.sep
# the student's code is called from here: a TypeError raised here comes from the call itself
CALLER_FILES = (os.path.dirname(os.path.dirname(__file__)) + os.sep, os.path.join('gluon', 'block.py'))
# A function of these alone computes nothing: pass, ..., or only the return that the exercise gives. Later Pythons have
# variants of them, such as LOAD_FAST_LOAD_FAST, LOAD_FAST_BORROW and RETURN_CONST: hence prefixes.
NO_OP_OPCODES = (
    'RESUME',
    'NOP',
    'LOAD_CONST',
    'LOAD_SMALL_INT',
    'LOAD_FAST',
    'LOAD_GLOBAL',
    'BUILD_TUPLE',
    'RETURN_VALUE',
    'RETURN_CONST',
)
Line = Tuple[CodeType, int]  # the code and the line's number


def is_empty(code: Any) -> bool:
    """Whether a function contains nothing that computes, only `pass`, `...` or the like."""
    code = getattr(code, '__code__', code)
    return hasattr(code, 'co_code') and all(
        step.opname.startswith(NO_OP_OPCODES) for step in dis.get_instructions(code)
    )


def not_written(code: Any, line: str = '') -> StudentError:
    name = getattr(code, 'co_name', '') or code.__name__
    return StudentError('NotWritten', f'{name} contains none of your code yet{line}')


def as_student_error(error: BaseException, file: Optional[str]) -> StudentError:
    """The StudentError for an exception; `file` is the name of the student's file in tracebacks."""
    if isinstance(error, StudentError):
        return error
    lines = [(frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    own = next((line for line in reversed(lines) if line[0].co_filename == file), None)
    place = '' if own is None else place_of(*own)
    if isinstance(error, SystemExit):
        return StudentError('CallsExit', f'the code ends the whole program{place}')
    if isinstance(error, NotImplementedError) or (isinstance(error, NameError) and own and is_empty(own[0])):
        return not_written(lines[-1][0], f' (line {own[1]})' if own else '')
    name = _mistake(error, lines, own)
    text = f'{type(error).__name__}: {_message(error)}'
    if name == 'WritesWhileRecording':
        text = 'MXNet refuses to write into an array that takes part in a gradient'
    if 'maximum number of dimension' in text:
        text = 'NumPy cannot compute with mx.nd arrays'
    return StudentError(name, f'{getattr(error, "during", "")}{text}{place}')


def place_of(code: CodeType, number: int) -> str:
    """' (line 3: return Y)': where in the student's own file it happened."""
    source = linecache.getline(code.co_filename, number).strip()
    return f' (line {number}' + (f': {source}' if source else '') + ')'


def _message(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ['']
    if len(lines) > 1 and 'Check failed' in lines[-1]:  # MXNet's own C++ position does not help a student
        lines[0] = lines[-1].split(': ', 3)[-1]
    text = lines[0].replace(f'{type(error).__name__}: ', '', 1)  # MXNet repeats it
    return text if len(text) < 300 else text[:300] + '...'


def _mistake(error: BaseException, lines: List[Line], own: Optional[Line]) -> str:
    if isinstance(error, RecursionError):
        return 'CallsItself'
    last = lines[-1][0].co_filename
    if isinstance(error, TypeError) and 'argument' in str(error) and any(caller in last for caller in CALLER_FILES):
        return 'WrongArguments'
    name = next(
        (name for name, messages in MISTAKE_TO_MESSAGES.items() if any(message in str(error) for message in messages)),
        None,
    )
    if name is None and own is not None:
        if any(NUMPY_FILES in code.co_filename for code, _ in lines[lines.index(own) :]):
            return 'NotInMXNet'
    return name or 'RaisesException'
