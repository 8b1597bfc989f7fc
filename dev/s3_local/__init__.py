"""A stand-in for S3 on loopback: moto's server, made strict, made to keep its objects, and able to
fail by script. For trying Headgate out, and for its tests; it is no S3 and holds no secrets.

    client --HTTP--> http_server --WSGI--> strict (checksums, conditions, faults) --> moto
                                              |
                                              +--> folder: one file an object, read back at start
"""
