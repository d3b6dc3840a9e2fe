"""Make one-step generators: data, teachers and Score identity Distillation."""
