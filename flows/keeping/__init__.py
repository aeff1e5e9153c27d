"""What is removed when nothing needs it any more, and what is kept elsewhere for the day when this machine is gone."""
