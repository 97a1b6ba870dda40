"""The doctor: whether a store can serve a protocol, and what is odd about it.

`examine.examine` is the way in, `examine.DoctorConfig` says what is looked at, `report` what is
said.
"""
