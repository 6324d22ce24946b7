# What has to be built, and from what. Called by scripts/setup.sh; quick when nothing is out of date.
CLANG ?= clang
STRIP ?= llvm-strip
CXX ?= g++
ARCH := $(shell uname -m)
BPF_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(ARCH)))
PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export PATH

BPF_SRC := $(wildcard bpf/*.bpf.c)
# Elsewhere for another compiler: make bpf BPF_OUT=/tmp/x CLANG=clang-19
BPF_OUT ?= build/bpf
BPF_OBJ := $(BPF_SRC:bpf/%.bpf.c=$(BPF_OUT)/%.bpf.o)
BPF_HDR := $(wildcard bpf/*.h)
# -mcpu=v3: compare-and-swap and 32-bit jumps; clang 14 defaults to v2.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) \
  -I/usr/include/$(ARCH)-linux-gnu -Wall -Wextra -Werror -Wno-unused-parameter

CC_SRC := $(wildcard native/*.cc)
CC_HDR := $(wildcard native/*.h)
CC_OBJ := $(CC_SRC:native/%.cc=build/native/%.o)
SAN_OBJ := $(CC_SRC:native/%.cc=build/native-san/%.o)
CXXFLAGS := -std=c++20 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror \
  -Inode_modules/node-api-headers/include -DNAPI_VERSION=9
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
LDLIBS := -lbpf -lpcap

# What two runs of make build at once, each builds under a name of its own, and exchanges it when it is whole.
TMP = tmp=$@.$$$$.tmp
DONE = && mv $$tmp $@ || { rm -f $$tmp; exit 1; }

WEB_SRC := $(shell find web -type f 2>/dev/null) src/api/point.ts
TS_SRC := $(shell find src lab bench -name '*.ts' 2>/dev/null)

.PHONY: all bpf native sanitized ts web clean
all: bpf native ts web
bpf: $(BPF_OBJ)
native: build/sluice.node
sanitized: build/sluice-san.node
ts: dist/.built
web: build/web/.built

$(BPF_OUT)/%.bpf.o: bpf/%.bpf.c $(BPF_HDR) Makefile
	@mkdir -p $(@D)
	$(TMP); $(CLANG) $(BPF_CFLAGS) -c $< -o $$tmp && $(STRIP) -g $$tmp $(DONE)

build/native/%.o: native/%.cc $(CC_HDR) Makefile
	@mkdir -p $(@D)
	$(TMP); $(CXX) $(CXXFLAGS) -c $< -o $$tmp $(DONE)

build/sluice.node: $(CC_OBJ)
	$(TMP); $(CXX) -shared -o $$tmp $^ $(LDLIBS) $(DONE)

build/native-san/%.o: native/%.cc $(CC_HDR) Makefile
	@mkdir -p $(@D)
	$(TMP); $(CXX) $(CXXFLAGS) $(SANFLAGS) -c $< -o $$tmp $(DONE)

build/sluice-san.node: $(SAN_OBJ)
	$(TMP); $(CXX) -shared $(SANFLAGS) -o $$tmp $^ $(LDLIBS) $(DONE)

# Built beside the old one and then exchanged, so that a failed build leaves what ran before.
dist/.built: $(TS_SRC) scripts/bundle-read.ts tsconfig.json package.json
	@mkdir -p build
	@new=build/ts.$$$$; tsc -p tsconfig.json --outDir $$new && node scripts/bundle-read.ts $$new/src/cli && touch $$new/.built \
	  && flock build sh -c "rm -rf dist && mv -T $$new dist" || { rm -rf $$new; exit 1; }

# The dashboard: bundled files that the API serves. Types are checked by npm run typecheck, not here.
build/web/.built: $(WEB_SRC) package.json
	@mkdir -p build
	@new=build/web.$$$$; vite build web --config web/vite.config.ts --outDir ../$$new --logLevel warn && touch $$new/.built \
	  && flock build sh -c "rm -rf build/web && mv -T $$new build/web" || { rm -rf $$new; exit 1; }

clean:
	rm -rf build dist
