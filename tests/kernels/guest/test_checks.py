def test_x(record_property):
    import os
    record_property("x", os.uname().version)
