"""Everything that knows TVM; no other folder imports it."""
