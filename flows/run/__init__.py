"""What a training run is made of: its request, its workspace, its stages, its record."""
