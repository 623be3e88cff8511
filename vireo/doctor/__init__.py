"""What a target needs and what of it is not here, before hours are spent.

Made from the configuration, the folders and the machine; downloads and changes nothing.
"""
