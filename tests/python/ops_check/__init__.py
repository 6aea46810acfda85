"""The parts of opcheck.py: arguments (inputs, cases), the checks of an op (public, inner, in_place), and their tally."""
