"""The instruments' faces: what each make and model shows of a process, as its manual says.

A device turns a process into registers. It knows nothing of sockets, framing or unit
identifiers. What a manual leaves open is decided here once and marked "assumed".
"""
