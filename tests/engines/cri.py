#!/usr/bin/python3
"""What a kubelet asks of containerd, with a runtime class whose handler is the runtime: sandbox, containers, exec, update, removal.

RUNTIME is the handler's binary, LAYOUT a layout with the busybox image, PAUSE one whose command sleeps. Run in an empty directory.
Prints a transcript. Speaks the CRI (runtime.v1) by hand: a message is a list of (field number, value)."""
import os, subprocess, sys, tarfile, time
import grpc

here, runtime, name = os.getcwd(), os.environ["RUNTIME"], "ocipipe-" + os.path.basename(os.getcwd())
CONFIG = f"""version = 2
root = "{here}/root"
state = "{here}/state"
[grpc]
address = "{here}/sock"
[ttrpc]
address = "{here}/ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:1"
restrict_oom_score_adj = true
disable_tcp_service = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{here}/cni"
conf_dir = "{here}/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci-spawn]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci-spawn.options]
BinaryName = "{runtime}"
Root = "{here}/runc"
"""
# A network that gives out an address and does nothing else: what matters here is a network namespace that is there already.
PLUGIN = """#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && exec echo '{"cniVersion": "0.3.1", "supportedVersions": ["0.3.1"]}'
[ "$CNI_COMMAND" = ADD ] && exec echo '{"cniVersion": "0.3.1", "interfaces": [{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}],
    "ips": [{"version": "4", "address": "10.99.0.2/24", "interface": 0}]}'
exit 0
"""
NETWORK = '{"cniVersion": "0.3.1", "name": "none", "plugins": [{"type": "nothing"}]}'


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        data = encode(value) if isinstance(value, list) else value.encode()
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    """The last value of each field: numbers and bytes."""
    out, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            out[key >> 3] = number()
        else:
            length = number()
            out[key >> 3] = data[at:at + length]
            at += length
    return out


def call(method, *fields):
    ask = channel.unary_unary("/runtime.v1.RuntimeService/" + method, request_serializer=encode, response_deserializer=decode)
    return ask(list(fields), timeout=60)


def say(title, method, *fields):
    """A call, of which errors belong to the transcript."""
    try:
        answer = call(method, *fields)
        print(title)
        return answer
    except grpc.RpcError as error:
        print(f"{title}: {error.code().name}")
        print(f"{title}: {error.details()}", file=sys.stderr)
        known = ["executable file not found in $PATH", "permission denied", "no such file or directory", "no runtime for"]
        print("   ", next((text for text in known if text in error.details()), "?"))


def prepare():
    os.makedirs("cni")
    os.makedirs("net.d")
    os.makedirs("logs")
    os.makedirs("volume")
    os.makedirs("tmp")
    for plugin in ["loopback", "nothing"]:
        with open("cni/" + plugin, "w") as file:
            file.write(PLUGIN)
        os.chmod("cni/" + plugin, 0o755)
    with open("net.d/10.conflist", "w") as file:
        file.write(NETWORK)
    with open("config.toml", "w") as file:
        file.write(CONFIG)
    environment = dict(os.environ, TMPDIR=here + "/tmp")
    daemon = subprocess.Popen(["containerd", "-c", "config.toml"], stdout=open("log", "w"), stderr=subprocess.STDOUT, env=environment)
    sys.stderr = open("calls", "w")
    for image, layout in [("bb", "LAYOUT"), ("pause", "PAUSE")]:
        with tarfile.open(image + ".tar", "w") as tar:
            tar.add(os.environ[layout], ".")
        load = ["ctr", "-a", here + "/sock", "-n", "k8s.io", "image", "import", "--base-name", "docker.io/library/" + image, image + ".tar"]
        for _ in range(100):
            if subprocess.run(load, stdout=sys.stderr, stderr=sys.stderr).returncode == 0:
                break
            time.sleep(0.1)
    return daemon


def sandbox(host=False, handler="oci-spawn"):
    """A pod, privileged and in the host's network with shared processes or all its own: its configuration, id, namespaces."""
    namespaces = [(1, 2), (2, 0)] if host else [(2, 1)]
    linux = [(1, "/" + name), (2, [(1, namespaces), (6, int(host))])]
    if not host:
        linux.append((3, [(1, "net.ipv4.ip_default_ttl"), (2, "33")]))
    config = [(1, [(1, f"pod-{host}"), (2, "uid"), (3, "default")]), (2, "" if host else "box"), (3, here + "/logs"), (8, linux)]
    answer = say(f"sandbox host={host} handler={handler}", "RunPodSandbox", (1, config), (2, handler))
    return (config, answer[1].decode(), namespaces) if answer else None


def create(pod, title, command, resources=(), security=(), more=()):
    config, pod_id, namespaces = pod
    linux = [(1, list(resources)), (2, [(3, namespaces), *security])]
    fields = [(1, [(1, title)]), (2, [(1, "docker.io/library/bb:1")]), *[(3, word) for word in command],
              (6, [(1, "A"), (2, "b")]), (11, title + ".log"), (15, linux), *more]
    answer = say("create " + title, "CreateContainer", (1, pod_id), (2, fields), (3, config))
    return answer[1].decode() if answer else None


def wait(container):
    for _ in range(400):
        status = decode(call("ContainerStatus", (1, container))[1])
        if status.get(3) == 2:
            return status
        time.sleep(0.05)
    print("does not end")
    return {}


def end(container, title):
    status = wait(container)
    code, reason = status.get(7, 0), status.get(10, b"").decode()
    # containerd hears of the memory that ran out beside the end, and calls it an error where the end was first
    print(f"{title}: exit {code} {'killed' if code == 137 else reason}")
    with open(f"logs/{title}.log") as log:
        for line in log:
            print("   ", line.rstrip("\n").split(" ", 1)[1])  # without the time
    say("remove " + title, "RemoveContainer", (1, container))


def job(pod, title, command, **options):
    container = create(pod, title, command, **options)
    if container and say("start " + title, "StartContainer", (1, container)) is not None:
        end(container, title)
    elif container:
        say("remove " + title, "RemoveContainer", (1, container))


def execute(container, *command):
    answer = say("exec " + " ".join(command), "ExecSync", (1, container), *[(2, word) for word in command], (3, 10))
    if answer:
        print("   ", answer.get(3, 0), answer.get(1, b"").decode().strip().replace("\n", "\n    "))


INSIDE = """id; hostname; echo $A; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_default_ttl
grep -E "Cap|NoNew|Seccomp:|Groups" /proc/self/status; cat /proc/self/oom_score_adj; ls /dev
cut -d" " -f5,6 /proc/self/mountinfo | sort | uniq; sed "s/.*://; s/[0-9a-f]\\{64\\}/ID/" /proc/self/cgroup | uniq"""


def file_of(container, controller, file):
    with open(f"/sys/fs/cgroup/{controller}/{name}/{container}/{file}") as value:
        return value.read().strip()


def life(pod):
    resources = [(1, 100000), (2, 50000), (3, 512), (4, 64 << 20), (5, 500)]
    container = create(pod, "life", ["sh", "-c", 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'], resources=resources)
    print("state", decode(call("ContainerStatus", (1, container))[1]).get(3, 0))
    say("start life", "StartContainer", (1, container))
    print(file_of(container, "memory", "memory.limit_in_bytes"), file_of(container, "cpu", "cpu.cfs_quota_us"))
    execute(container, "sh", "-c", "id; cat /proc/self/oom_score_adj; echo $A; exit 5")
    execute(container, "no-such-program")
    execute(container, "/etc/passwd")
    say("update", "UpdateContainerResources", (1, container), (2, [(2, 25000), (4, 32 << 20)]))
    print(file_of(container, "memory", "memory.limit_in_bytes"), file_of(container, "cpu", "cpu.cfs_quota_us"))
    say("stats", "ContainerStats", (1, container))
    say("stop", "StopContainer", (1, container), (2, 10))
    end(container, "life")


def main():
    pod = sandbox()
    job(pod, "inside", ["sh", "-c", INSIDE], security=[(13, "/proc/kcore"), (13, "/proc/acpi"), (14, "/proc/sys"), (14, "/proc/none")])
    job(pod, "user", ["id"], security=[(5, [(1, 1000)]), (12, [(1, 2000)]), (8, 3000), (11, 1)])
    job(pod, "default-seccomp", ["grep", "Seccomp:", "/proc/self/status"], security=[(15, [(1, 0)])])
    job(pod, "read-only", ["touch", "/x"], security=[(7, 1)])
    mounts = [(7, [(1, "/v"), (2, here + "/volume")]), (7, [(1, "/r"), (2, here + "/volume"), (3, 1)])]
    job(pod, "mounts", ["sh", "-c", "exec 2>&1; echo x >/v/file; cat /r/file; touch /r/x"], more=mounts)
    job(pod, "killed", ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], resources=[(4, 16 << 20), (10, 16 << 20)])
    job(pod, "missing", ["no-such-program"])
    job(pod, "denied", ["/etc/passwd"])
    job(pod, "terminal", ["sh", "-c", "tty; test -t 1 && echo a terminal"], more=[(14, 1)])
    life(pod)
    say("stop sandbox", "StopPodSandbox", (1, pod[1]))
    say("remove sandbox", "RemovePodSandbox", (1, pod[1]))
    shared = sandbox(host=True)
    job(shared, "privileged", ["sh", "-c", "grep -E 'Cap|Seccomp:' /proc/self/status; grep -E ' /(sys|proc) ' /proc/mounts"], security=[(2, 1)])
    job(shared, "shared", ["sh", "-c", "ps -o args | head -n 2 | tail -n 1; ls /sys/class/net | grep -x lo"])
    say("remove sandbox", "RemovePodSandbox", (1, shared[1]))  # stops it too
    sandbox(handler="no-such-handler")


daemon = prepare()
channel = grpc.insecure_channel(f"unix://{here}/sock")
try:
    main()
finally:
    daemon.terminate()
    daemon.wait()
    subprocess.run(["find", "runc", "-mindepth", "2"])
    subprocess.run(["find", "/sys/fs/cgroup", "-mindepth", "2", "-type", "d", "-path", f"*{name}/*"])
    # others make and remove groups while find walks
    for _ in range(100):
        walk = ["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", f"*{name}*"]
        subprocess.run([*walk, "-exec", "rmdir", "{}", "+"], stderr=subprocess.DEVNULL)
        if not subprocess.run(walk, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout:
            break
        time.sleep(0.05)
