"""From the journal to consumers over MQTT. What a register is, is not known here."""
