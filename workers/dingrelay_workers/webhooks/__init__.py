"""Notices to business applications: endpoints, deliveries, and their administration."""
