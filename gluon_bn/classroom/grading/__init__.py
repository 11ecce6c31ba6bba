"""From the files that students hand in to their grades; their code runs in a sandbox."""
