"""What may be wrong with a station and its machine, and what to do about it.

`station` and `machine` judge facts and touch nothing; `read_station` and `read_machine` read them.
"""
