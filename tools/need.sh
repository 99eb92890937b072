#!/bin/sh
# Says in one line each what this machine lacks of what is named: need.sh go python
# Ends with 1 if anything is missing. The least versions stand in versions.yaml.
cd "$(dirname "$0")/.." || exit 1
bad=0
lack() { printf 'missing: %s\n' "$1" >&2; bad=1; }
least() { # least SECTION: its "minimum" in versions.yaml
	awk -v s="$1:" '$1 == s {on = 1; next} /^[^ #]/ {on = 0} on && $1 == "minimum:" {gsub(/"/, "", $2); print $2}' versions.yaml
}
older() { # older A B: whether version A is older than B ("devel ..." never is)
	case $1 in devel*) return 1 ;; esac
	[ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$1" ]
}

need_go() {
	want=$(least go)
	if ! command -v "${GO:-go}" >/dev/null 2>&1; then
		lack "Go $want or newer (no '${GO:-go}' on PATH); Go's own site and most package managers have it"
		return
	fi
	# Asked inside the module: a Go that may fetch a newer toolchain answers with that one's version.
	if ! have=$("${GO:-go}" env GOVERSION 2>/dev/null) || older "${have#go}" "$want"; then
		lack "Go $want or newer: $(GOTOOLCHAIN=local "${GO:-go}" version 2>/dev/null | cut -d' ' -f3) at $(command -v "${GO:-go}") is older and could not fetch a newer one"
	fi
}

need_python() {
	want=$(least python)
	if ! command -v "${PYTHON:-python3}" >/dev/null 2>&1; then
		lack "Python $want or newer with pip (no '${PYTHON:-python3}' on PATH; PYTHON=/path/to/python3 names another)"
		return
	fi
	have=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	if older "$have" "$want"; then
		lack "Python $want or newer: ${PYTHON:-python3} is $have (PYTHON=/path/to/python3 names another)"
	elif ! "${PYTHON:-python3}" -m pip --version >/dev/null 2>&1; then
		lack "pip for ${PYTHON:-python3}; on Debian and Ubuntu: apt-get install python3-pip"
	fi
}

for what in "$@"; do
	"need_$what"
done
exit $bad
