"""From files to a checked plan of the site: all faults at once, no network touched."""

from edgeagent.configure.plan import LinkPlan, SitePlan, load_plan

__all__ = ["LinkPlan", "SitePlan", "load_plan"]
