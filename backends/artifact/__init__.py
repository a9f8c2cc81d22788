"""Program -> files: the folder that ships."""
