#!/bin/sh
# Makes a CA, a server certificate and client certificates, to try out TLS and mTLS with. For a try-out: the CA's key lies unencrypted
# beside the rest, and nothing is ever renewed. In production, use the CA that you have, or step-ca, or your platform's.
#
#   make-certificates.sh [-d directory] [-n server-name]... [client]...
#
#   -d directory   where files are written (default: ./certificates); a CA that is there is used again
#   -n name        a further name or address of the server, beside localhost, 127.0.0.1 and ::1
#   client         a client's name (a-z 0-9 . -); its certificate has the subject alternative name URI:spiffe://tallystick.test/<client>
#
# Writes ca.pem, server.pem and server.key, <client>.pem and <client>.key. Needs openssl 1.1.1 or newer.
set -eu

directory=./certificates
names=DNS:localhost,IP:127.0.0.1,IP:::1
usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
while getopts d:n: option; do
  case $option in
    d) directory=$OPTARG ;;
    n)
      case $OPTARG in
        *[!0-9.]*:* | *:*) names=$names,IP:$OPTARG ;;
        *[!0-9.]*) names=$names,DNS:$OPTARG ;;
        *) names=$names,IP:$OPTARG ;;
      esac
      ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
for client in "$@"; do
  case $client in
    '' | -* | .* | *[!a-z0-9.-]* | ca | server)
      echo "make-certificates.sh: \"$client\" is no name for a client: use a-z 0-9 . and -, and neither ca nor server" >&2
      exit 2
      ;;
  esac
done

umask 077 # keys are for this user only
mkdir -p "$directory"
cd "$directory"
extensions=$(mktemp)
request=$(mktemp)
trap 'rm -f "$extensions" "$request"' EXIT

# openssl tells of every key that it makes; only what goes wrong is of interest.
run() {
  if ! output=$(openssl "$@" 2>&1); then
    echo "$output" >&2
    exit 1
  fi
}

key() {
  run genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ ! -e ca.key ]; then
  key ca.key
  run req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Tallystick try-out CA" -out ca.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
fi

# certificate <file> <subject> <extendedKeyUsage> <subjectAltName>
certificate() {
  key "$1.key"
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4" > "$extensions"
  run req -new -key "$1.key" -subj "$2" -out "$request"
  run x509 -req -in "$request" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -sha256 -days 365 \
    -extfile "$extensions" -out "$1.pem"
}

certificate server "/CN=localhost" serverAuth "$names"
for client in "$@"; do
  certificate "$client" "/CN=$client" clientAuth "URI:spiffe://tallystick.test/$client"
done

chmod 644 ./*.pem
here=$(pwd)
echo "In $here:"
echo "  ca.pem                     the CA, for clients that check the server and for TLS_CLIENT_CA_PATH"
echo "  server.pem, server.key     for TLS_CERT_PATH and TLS_KEY_PATH"
for client in "$@"; do
  fingerprint=$(openssl x509 -in "$client.pem" -noout -fingerprint -sha256)
  echo "  $client.pem, $client.key"
  echo "      URI:spiffe://tallystick.test/$client"
  echo "      ${fingerprint#*=}"
done
