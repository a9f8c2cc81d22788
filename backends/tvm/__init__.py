"""The only folder that imports TVM."""
