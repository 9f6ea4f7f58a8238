"""The other side of the wire: instruments that are not there, for tests and demonstrations.

Physics and biology (:mod:`simulators.process`) drive the instruments' faces
(:mod:`simulators.devices`), which answer on real sockets (:mod:`simulators.wire`). The package
shares no code with the agent or its drivers and uses no protocol library: what one side
misreads in a manual must not be misread in the same way by the other.
"""
