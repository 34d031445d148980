"""Texts the images bring: welcome pages, a configuration to read or replace, agnhost's self-signed certificate.

The key of that certificate is as public as the real image's: it proves nothing and is only there to speak TLS with.
"""

from __future__ import annotations

NGINX_WELCOME = """<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
<style>
html { color-scheme: light dark; }
body { width: 35em; margin: 0 auto; font-family: Tahoma, Verdana, Arial, sans-serif; }
</style>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>If you see this page, the web server of this pod answers. It is podnet's stand-in
for nginx: it serves the files of /usr/share/nginx/html.</p>

<p><em>Thank you for using podnet.</em></p>
</body>
</html>
"""

NGINX_50X = """<!DOCTYPE html>
<html>
<head><title>Error</title></head>
<body><h1>An error occurred.</h1></body>
</html>
"""

NGINX_CONF = """# podnet's nginx reads the server blocks of conf.d only.
events {}
http {
    include /etc/nginx/conf.d/*.conf;
}
"""

NGINX_DEFAULT_CONF = """server {
    listen       80;
    server_name  localhost;

    location / {
        root   /usr/share/nginx/html;
        index  index.html;
    }
}
"""

HTTPD_INDEX = "<html><body><h1>It works!</h1></body></html>\n"

LOCALHOST_CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUR38xbZup4sXLzS1U0j8EK5VrM6AwCgYIKoZIzj0EAwIw
GTEXMBUGA1UECgwOcG9kbmV0IGFnbmhvc3QwIBcNNzAwMTAxMDAwMDAxWhgPMjA4
NDAxMjkxNjAwMDBaMBkxFzAVBgNVBAoMDnBvZG5ldCBhZ25ob3N0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEqaP6ryO65hbFMK1YgR6oCEuzIGehcxngzzbRCSIQ
7Pjk3kN+vq8fXgqUYkPcJADLPC9nYZRlgEMbKiBtbH8pSKNBMD8wLAYDVR0RBCUw
I4IJbG9jYWxob3N0hwR/AAABhxAAAAAAAAAAAAAAAAAAAAABMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgMfwgWDhoVlpKFnGCTpehAVKwKN7nKnWU
6+IkmY4pXIACIQDyN1ZX2eD07dbaVdyTLp+joUn6uWoIY4Y9FOos5VscgA==
-----END CERTIFICATE-----
"""

LOCALHOST_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgs5Z7smNj8DCYjsEg
JmdrCUb7e4oQgxKWKd7JnYFLeD6hRANCAASpo/qvI7rmFsUwrViBHqgIS7MgZ6Fz
GeDPNtEJIhDs+OTeQ36+rx9eCpRiQ9wkAMs8L2dhlGWAQxsqIG1sfylI
-----END PRIVATE KEY-----
"""
