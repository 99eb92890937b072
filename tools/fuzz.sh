#!/bin/sh
# Runs every fuzz target for a while: fuzz.sh 3s (or a count of inputs: fuzz.sh 10000x), or only the named ones: fuzz.sh 10000x FuzzRequests.
# Only this module's packages are built with coverage counters. "go test -fuzz" would build
# all that they depend on with them too, minutes for an etcd that is not under test here.
cd "$(dirname "$0")/.." || exit 1
root=$PWD
out=$root/.tools/fuzz
mkdir -p "$out" || exit 1
bad=0

# fuzz runs one target. A failing input is written below the package's testdata, to be kept
# as a test.
fuzz() {
	(cd "$dir" && exec "$binary" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$1" \
		-test.fuzzcachedir "$out/corpus/$dir") >"$log" 2>&1 </dev/null
}

# late reports whether nothing failed but the end: on a busy machine Go's fuzzer now and then
# takes the end of its time, which it has set itself, for a failure.
late() {
	grep -q '^    context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log"
}

# Lines such as "./internal/access FuzzParse FuzzVerify", of the targets that are wanted.
tools/each.sh Fuzz | while read -r dir names; do
	wanted=
	for name in $names; do
		case " ${2:-$name} " in *" $name "*) wanted="$wanted $name" ;; esac
	done
	[ -z "$wanted" ] || echo "$dir$wanted"
done >"$out/targets"

# One command builds them all: it reads the packages once, and links several at a time.
[ -s "$out/targets" ] || { echo "there is no fuzz target called $2" >&2; exit 1; }
# shellcheck disable=SC2046 # folders, a word each
"${GO:-go}" test -c -vet=off -gcflags='github.com/fairlead-mesh/fairlead/...=-d=libfuzzer' -o "$out/" $(cut -d ' ' -f 1 "$out/targets") || exit 1
while read -r dir names; do
	binary=$out/$(basename "$dir").test
	for name in $names; do
		log=$out/$name.log
		if fuzz "$1" || { late && fuzz "$1"; }; then
			echo "ok    $dir $name: $(sed -n 's/.*\(execs: [0-9]*\).*/\1/p' "$log" | tail -n 1)"
		else
			cat "$log"
			echo "FAIL  $dir $name"
			bad=1
		fi
	done
done <"$out/targets"
exit $bad
