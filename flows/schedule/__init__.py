"""What happens without a person: deployments, arrivals, overdue runs, and how people hear of it."""
