"""From video files to windows: decoding, the time grid, clips, and generated sample videos.

Import from the modules; `windows.read_windows` is where most callers start.
"""
