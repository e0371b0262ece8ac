"""GitHub, GitLab and webhooks: signatures and events in, statuses out. No store, no workflow."""
