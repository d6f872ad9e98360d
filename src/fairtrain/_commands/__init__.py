"""What the ``fairtrain`` command does, one concept a file; ``fairtrain.cli`` only reads options."""
