"""Making the index anew from the roots alone: order and loading, looking at the disks, and what becomes of it.

labels ─► finding, identifying ─► leftovers ─► mending         all in the order that `rebuilding` says
"""
