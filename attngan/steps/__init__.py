"""The steps of the pipeline, one file each, named as its command and its component.

A step opens its inputs, lets one of the other rooms do the work, and writes its result folder. No step imports another.
"""
