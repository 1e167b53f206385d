"""A robot's normalised state as 256 bins a joint, the form in which π0.5 and π0-FAST read it as text."""

from numpy import int16
from numpy.typing import ArrayLike, NDArray

from pioxide import _core

# Bins of the range that states are normalised to; what lies below it is bin -1.
STATE_BINS = 256


def state_bins(state: ArrayLike) -> NDArray[int16]:
    """Bins each joint of a normalised state as openpi does.

    Bin i covers [-1 + i/128, -1 + (i+1)/128). Anything from 1 - 1/128 up is 255, anything below -1 is -1.

    >>> state_bins([-1.5, -1.0, 0.0, 0.5, 1.0]).tolist()
    [-1, 0, 128, 192, 255]

    Args:
        state: [D] values, normalised so that most lie in [-1, 1].

    Returns:
        [D] bins from -1 to 255.

    Raises:
        InputError: A value is NaN or infinite; the message names the joint.
    """
    return _core.state_bins(state)
