"""The libopus that `opuslib_next` speaks to: the one inside the PyAV wheel.

`opuslib_next` asks `ctypes.util.find_library("opus")` while it is imported and fails on machines
without a system libopus; and where there is one, its version is anybody's guess. PyAV's wheel
carries a known libopus (1.6.1 with PyAV 18), so nothing need be installed by hand. Only this
file imports `opuslib_next`; everybody else takes its modules from here.
"""

import ctypes
import ctypes.util
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from codec.errors import CodecError

# Where wheels put the libraries they carry: beside the package on Linux (auditwheel) and
# Windows (delvewheel), inside it on macOS (delocate).
_WHEEL_FOLDERS = ("../av.libs", ".dylibs")
# From opus_defines.h (libopus 1.5 and newer); the upstream package does not know it.
_SET_DRED_DURATION = 4050
_ANY_RATE = 48_000


def _bundled() -> str | None:
    # find_spec does not import av, so a loudspeaker that decodes only never pays for FFmpeg.
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    for folder in _WHEEL_FOLDERS:
        # The suffix keeps out libopusfile and libopusenc.
        for found in sorted((package / folder).glob("libopus[-.]*")):
            return str(found.resolve())
    return None


def _locate() -> str:
    location = _bundled() or ctypes.util.find_library("opus")
    if location is None:
        msg = "no libopus: reinstall the PyAV wheel (pip install --force-reinstall av)"
        raise CodecError(msg)
    return location


def _import_opuslib(location: str) -> Any:
    """Import `opuslib_next.api` with `find_library("opus")` answering `location`.

    Its only hook is that function, looked up by name during the import, so it is replaced for
    exactly that long. Every other name still gets the true answer, and the true function comes
    back even if the import fails.
    """
    original = ctypes.util.find_library

    def redirected(name: str) -> str | None:
        return location if name == "opus" else original(name)

    ctypes.util.find_library = redirected
    try:
        return importlib.import_module("opuslib_next.api")
    finally:
        ctypes.util.find_library = original


LOCATION = _locate()
_import_opuslib(LOCATION)

encoder_api: Any = importlib.import_module("opuslib_next.api.encoder")
decoder_api: Any = importlib.import_module("opuslib_next.api.decoder")
ctl: Any = importlib.import_module("opuslib_next.api.ctl")
constants: Any = importlib.import_module("opuslib_next.constants")
OpusError: type[Exception] = importlib.import_module("opuslib_next.exceptions").OpusError


def version() -> str:
    """Ask the loaded library its name, for example "libopus 1.6.1"."""
    name: bytes = importlib.import_module("opuslib_next.api.info").get_version_string()
    return name.decode("ascii", errors="replace")


def has_dred() -> bool:
    """Whether its encoder can add deep redundancy (DRED), a second of speech to every packet.

    Asked, not guessed: a library built without the neural networks has the functions all the same,
    and answers OPUS_UNIMPLEMENTED to OPUS_SET_DRED_DURATION. So does the one in PyAV's wheel.
    """
    state = encoder_api.create_state(_ANY_RATE, 1, constants.APPLICATION_VOIP)
    try:
        answer: int = encoder_api.libopus_ctl(state, _SET_DRED_DURATION, ctypes.c_int(0))
    finally:
        encoder_api.destroy(state)
    return answer == int(constants.OK)
