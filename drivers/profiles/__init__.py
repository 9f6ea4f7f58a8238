"""Profiles that ship with the agent: one YAML file per make and model."""
