"""The other end: the reference receiver, which commits first and then sends a receipt.

:mod:`~edgeagent.central.bodies` judges single records, :mod:`~edgeagent.central.intake` decides
where a batch belongs, :mod:`~edgeagent.central.store` keeps it, and
:mod:`~edgeagent.central.receiver` connects them with a broker. ``docs/receiver.md`` says what the
database holds and guarantees. Nothing here shares code with the agent beyond the envelope.
"""
