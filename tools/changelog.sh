#!/bin/sh
# Checks the changelog fragments: each has the form of changelog/TEMPLATE, and every
# issue that a commit since the last release says it fixes has one.
cd "$(dirname "$0")/.." || exit 1
bad=0
wrong() { printf '%s\n' "$1" >&2; bad=1; }

for f in changelog/unreleased/*; do
	[ -e "$f" ] || continue
	n=$(basename "$f" .md)
	case $n in *[!0-9]*) wrong "$f: the name is the issue's number and .md"; continue ;; esac
	head -n 1 "$f" | grep -qE '^(Enhancement|Fix|Change|Security): .*[^.]$' ||
		wrong "$f: the first line is 'Enhancement: …', 'Fix: …', 'Change: …' or 'Security: …', without a full stop"
	[ "$(tail -n 1 "$f")" = "Issue #$n" ] || wrong "$f: the last line is 'Issue #$n'"
	[ "$(awk -v RS= 'END {print NR}' "$f")" -ge 4 ] ||
		wrong "$f: between them, two paragraphs: what was (past tense), what is now (present tense); see changelog/TEMPLATE"
done

if git rev-parse HEAD >/dev/null 2>&1; then
	last=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
	for n in $(git log --format=%B ${last:+"$last.."}HEAD | grep -oE '^Fixes #[0-9]+' | tr -dc '0-9\n' | sort -u); do
		[ -e "changelog/unreleased/$n.md" ] || wrong "changelog/unreleased/$n.md is missing: a commit says 'Fixes #$n' (changelog/TEMPLATE shows the form)"
	done
fi
exit $bad
