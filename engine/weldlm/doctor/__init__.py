"""Proof on the user's own model and data that training does what it says.

Each check makes a claim, measures it and says what to do where it fails.
"""

from weldlm.doctor.check import Check
from weldlm.doctor.own_model import examine
from weldlm.doctor.their_model import examine_theirs

__all__ = ["Check", "examine", "examine_theirs"]
