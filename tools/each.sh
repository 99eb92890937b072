#!/bin/sh
# Lists the packages that have functions of a kind and their names: each.sh Fuzz
# prints lines such as "./internal/access FuzzParse FuzzVerify".
cd "$(dirname "$0")/.." || exit 1
grep -rhoE --include='*_test.go' -H "^func $1[A-Z][A-Za-z0-9_]*\(" cmd internal test api 2>/dev/null |
	sed -E 's|^(.*)/[^/]*:func ([A-Za-z0-9_]+)\($|\1 \2|' | sort -u |
	awk '{n[$1] = n[$1] " " $2} END {for (d in n) print "./" d n[d]}' | sort
