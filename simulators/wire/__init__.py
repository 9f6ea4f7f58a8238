"""Framings and servers that carry a device's answers.

:mod:`~simulators.wire.modbus_pdu` turns request into reply and knows no framing; each framing
wraps it in a module of its own.
"""
