"""The tests of qir; the folders mirror the source tree."""
