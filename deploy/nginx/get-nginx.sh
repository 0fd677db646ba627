#!/bin/sh
# Unpacks the distribution's nginx into node_modules/.cache/nginx, for the tests, where none is installed. Installs nothing; Debian and Ubuntu.
set -eu
cd "$(dirname "$0")/../.."
for place in "$(command -v nginx || true)" /usr/sbin/nginx node_modules/.cache/nginx/usr/sbin/nginx; do
  if [ -n "$place" ] && "$place" -v 2> /dev/null; then exit 0; fi
done
mkdir -p node_modules/.cache/nginx
cd node_modules/.cache/nginx
if ! apt-get download nginx 2> /dev/null; then
  apt-get update -qq
  apt-get download nginx
fi
for package in nginx_*.deb; do dpkg -x "$package" .; done
rm -f nginx_*.deb
usr/sbin/nginx -v
