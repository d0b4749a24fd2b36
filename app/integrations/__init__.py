"""Plugins of programs that people already use. See README.md beside this file."""
