# Fairlead: everything a person or CI does with the checkout. "make help" lists it.
#
# Needs Go, Python 3 with pip, make and a shell; nothing else and no root. What is fetched goes
# to .tools/, pinned by versions.yaml, tools/clients.txt and the go.sum files.

GO ?= go
PYTHON ?= python3
ENVOY_PATH ?= $(CURDIR)/.tools/envoy/envoy
ARGS ?=
FUZZTIME ?= 2s
REQUESTS ?= 1000000
MESHES ?= 2000
EDITS ?= 200
RECONNECTS ?= 1000
SOAKTIME ?= 30m
LINEARTIME ?= 60s
CHAOSTIME ?= 20s
CHAOSRUNS ?= 1
BENCH ?= .
SCALE ?= .
SCALE_OUT ?= bin/scale
QUOTAMINUTES ?= 3

export GO PYTHON ENVOY_PATH
# One set of compiler settings for builds, tests and lint, so that they share one build cache.
# Without the tag, grpc brings html/template, by which the linker keeps every method: the
# agent would be 5 MB larger.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(shell $(GO) env GOFLAGS 2>/dev/null) -trimpath -tags=grpcnotrace $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false))

# The rooms whose code is mostly concurrency are tested once more under the race detector.
RACE_ROOMS := ./internal/store ./internal/live ./internal/access/... ./internal/xds ./internal/restapi/... ./internal/server/... ./internal/registry/... ./internal/replica ./internal/quota
PACKAGES ?= ./...
# The packages whose tests take longest begin first: the others run beside them, and nothing is waited for in the end.
LONGEST := ./test/envoy ./test/redirected ./test/replicas ./internal/demo ./test/bench/scale ./cmd/fairlead
# Most tests wait, for an Envoy or an etcd, more than they compute: one package more at a time than there are
# processors. "make check" has vetted them.
TEST_FLAGS := -vet=off -p $(shell echo $$(($$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1))) -timeout 12m
# What runs an Envoy and depends on its version.
ENVOY_ROOMS := ./internal/envoy ./internal/agent ./test/envoy ./test/redirected ./test/ecs ./test/kubernetes ./test/telemetry
CLIENTS := .tools/clients
LINT := .tools/bin/golangci-lint

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-versions test-spire check check-fast build generate bench bench-scale fuzz soak quota chaos lock clean \
	need-go need envoy test-go test-race test-fuzz test-clients lint lint-containers check-generated check-tidy

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: need envoy build ## set everything up on this machine and show a canary on real Envoys
	@bin/fairlead demo $(ARGS)

test: need envoy build test-go test-race test-fuzz test-clients ## run all tests (15 minutes at most)

test-versions: need envoy ## fetch each older Envoy that versions.yaml names, and test with it (5 minutes each)
	@$(PYTHON) tools/fetch.py older
	@echo "== older Envoys beside the newest"
	@$(PYTHON) tools/gotest.py -count=1 -timeout 10m ./test/envoy -run '^TestEnvoysOfSeveralVersions$$'
	@bad=0; for envoy in "$(CURDIR)"/.tools/envoy-1.*/envoy; do echo "== $$("$$envoy" --version | tr -d '\n')"; \
		ENVOY_PATH="$$envoy" $(PYTHON) tools/gotest.py -count=1 -timeout 20m $(ENVOY_ROOMS) || bad=1; done; exit $$bad

test-spire: need-go envoy ## test with a real SPIRE, built first (ten minutes, 1.2 GB of modules and a C compiler)
	@mkdir -p .tools/spire
	@echo "== building SPIRE"
	@CGO_ENABLED=1 GOFLAGS="-trimpath -buildvcs=false" $(GO) -C test/spire/servers build -ldflags "-s -w" -o "$(CURDIR)/.tools/spire/" \
		github.com/spiffe/spire/cmd/spire-agent github.com/spiffe/spire/cmd/spire-server
	@FAIRLEAD_TEST_SPIRE="$(CURDIR)/.tools/spire" $(PYTHON) tools/gotest.py -count=1 -timeout 10m ./test/spire

check: need check-fast check-tidy check-generated lint lint-containers ## all that must hold before a commit, tests aside

check-fast: need-go ## the quick part of check: format, vet, the rules of internal/archtest
	@bad=$$(gofmt -l api cmd internal test tools 2>/dev/null); [ -z "$$bad" ] || { echo "not gofmt'ed:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) -C test/clients/gosdk1 vet ./...
	$(GO) -C test/telemetry/receivers vet ./...
	$(GO) -C test/bench/scale/peers vet ./...
	$(GO) test ./internal/archtest
	@tools/changelog.sh

build: need-go ## build bin/fairlead and bin/fairlead-agent
	@mkdir -p bin
	@echo "building bin/fairlead and bin/fairlead-agent (minutes the first time, then seconds) …"
	@$(GO) build -ldflags "-s -w" -o bin/ ./cmd/fairlead ./cmd/fairlead-agent

generate: need ## make the generated files anew, from the service models that versions.yaml pins
	@$(PYTHON) tools/fetch.py model
	$(GO) run ./internal/gen -model .tools/models/appmesh.json.gz -cloudmap .tools/models/servicediscovery.json.gz -out .
	$(GO) test -count=1 ./internal/envoy -run '^TestFields$$' -update

bench: need envoy build ## run the benchmarks (BENCH=name picks some)
	@tools/each.sh Benchmark | while read -r dir names; do \
		$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 30m "$$dir" </dev/null || exit 1; done

bench-scale: need envoy ## measure with thousands of proxies, beside go-control-plane's caches (SCALE=regexp picks scenarios; half an hour)
	@mkdir -p $(SCALE_OUT)
	$(GO) run ./test/bench/scale -scenarios '$(SCALE)' -out $(SCALE_OUT)/table.md -profiles $(SCALE_OUT)/profiles
	@echo "the table is in $(SCALE_OUT)/table.md, profiles of the server in $(SCALE_OUT)/profiles"

fuzz: need envoy test-fuzz ## the long tests: fuzzing, random meshes, edits under load, faults, older Envoys, SPIRE, each field taken out (hours)
	@echo "== $(REQUESTS) fuzzed requests (some minutes)"
	@tools/fuzz.sh $(REQUESTS)x FuzzRequests
	@echo "== $(MESHES) random meshes, checked by an Envoy and taken by running ones (some minutes)"
	@$(PYTHON) tools/gotest.py -count=1 -timeout 60m ./internal/envoy -run '^Test(Random|Odd)Meshes$$' -meshes $(MESHES)
	@$(PYTHON) tools/gotest.py -count=1 -timeout 120m ./test/envoy -run '^TestRandomMeshesAreTaken$$' -meshes $(MESHES)
	@echo "== $(EDITS) edits of each kind under load (half an hour)"
	@$(PYTHON) tools/gotest.py -count=1 -timeout 120m ./test/envoy ./test/redirected -run 'UnderLoad|AreReplaced' -edits $(EDITS)
	@echo "== $(RECONNECTS) reconnects of an Envoy (a quarter of an hour)"
	@$(PYTHON) tools/gotest.py -count=1 -timeout 60m ./internal/agent -run '^TestNothingGrows$$' -reconnects $(RECONNECTS)
	@$(MAKE) --no-print-directory chaos
	@$(MAKE) --no-print-directory quota
	@$(MAKE) --no-print-directory test-versions
	@$(MAKE) --no-print-directory test-spire
	@echo "== every field taken out, for the tests that cover it to fail (up to an hour)"
	@$(PYTHON) tools/gotest.py -count=1 -timeout 240m ./test/takeout -all

soak: need envoy ## everything comes and goes for SOAKTIME (30m), and nothing grows; before it, 16 writers for LINEARTIME (60s), with the server killed
	$(GO) test -count=1 -v -timeout 30m ./test/linear -parallel 1 -linear.time $(LINEARTIME)
	$(GO) run ./test/soak -time $(SOAKTIME) -out bin/soak

quota: need envoy ## measure a quota over 20 proxies and three servers for QUOTAMINUTES (3), with servers killed, and what it costs a request
	$(GO) test -count=1 -v -timeout 60m ./test/replicas -run TestQuotaOfAll -quota.proxies 20 -quota.minutes $(QUOTAMINUTES)

chaos: need envoy ## every fault, CHAOSTIME (20s) each, under steady writes and traffic, CHAOSRUNS (1) times; needs root (ten minutes)
	$(GO) test -count=$(CHAOSRUNS) -v -timeout 120m ./test/chaos -parallel 1 -chaos.time $(CHAOSTIME)

lock: need ## write tools/clients.txt anew, after a change of versions.yaml
	@$(PYTHON) tools/fetch.py lock

clean: ## remove what was built and fetched
	rm -rf bin .tools

# ---- parts of the above

need-go:
	@tools/need.sh go

need:
	@tools/need.sh go python

# An Envoy that the user names is taken as it is.
envoy:
	@if [ "$$ENVOY_PATH" = "$(CURDIR)/.tools/envoy/envoy" ]; then $(PYTHON) tools/fetch.py envoy; fi

test-go:
	@echo "== Go tests"
	@$(PYTHON) tools/gotest.py $(TEST_FLAGS) $(if $(filter ./...,$(PACKAGES)),$(LONGEST)) $(PACKAGES)

test-race:
	@echo "== the rooms that are mostly concurrency, with the race detector"
	@if command -v "$$($(GO) env CC)" >/dev/null 2>&1; then \
		CGO_ENABLED=1 $(PYTHON) tools/gotest.py -race $(TEST_FLAGS) $(RACE_ROOMS); \
	else echo "no C compiler: the race detector's run of $(RACE_ROOMS) is left out"; fi

test-fuzz:
	@echo "== fuzzing, $(FUZZTIME) each"
	@tools/fuzz.sh $(FUZZTIME)

test-clients:
	@echo "== the AWS CLI, boto3 and the SDKs"
	@$(PYTHON) tools/fetch.py clients
	@PYTHONPATH="$(CURDIR)/$(CLIENTS)" PATH="$(CURDIR)/$(CLIENTS)/bin:$$PATH" PYTHONDONTWRITEBYTECODE=1 \
		$(PYTHON) -m pytest -q -rs -p no:cacheprovider test/clients

# The linter is built from tools/go.mod once; the stamp is what it was built from.
$(LINT): tools/go.mod tools/go.sum
	@echo "building the linter (two minutes, once) …"
	@mkdir -p $(@D)
	@cd tools && $(GO) build -ldflags "-s -w" -o ../$@.new github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@mv $@.new $@

lint: need-go $(LINT)
	$(LINT) run --concurrency 2 $(PACKAGES)

# The pinned linter of container files is built for one kind of machine; test/deploy runs their steps on all.
lint-containers: need
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then $(PYTHON) tools/fetch.py hadolint && .tools/hadolint/hadolint --failure-threshold info deploy/containers/*.Dockerfile; \
	else echo "no hadolint for $$(uname -sm): the container files are not linted"; fi

check-generated: need
	@$(PYTHON) tools/fetch.py model
	@tools/check-generated.sh .tools/models/appmesh.json.gz .tools/models/servicediscovery.json.gz

check-tidy: need-go
	$(GO) mod tidy -diff
	$(GO) -C test/clients/gosdk1 mod tidy -diff
	$(GO) -C test/telemetry/receivers mod tidy -diff
	$(GO) -C test/bench/scale/peers mod tidy -diff
