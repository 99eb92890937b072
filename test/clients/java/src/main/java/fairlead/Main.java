package fairlead;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;

/**
 * A client of App Mesh as programs in Java have them: AWS's SDK for Java v2, unchanged.
 *
 * <p>{@code Main operations SETTINGS} calls each operation and meets each error of the model, {@code Main identity
 * SETTINGS} calls by what the environment says alone. SETTINGS is a JSON file that says where the control plane is. What was seen is printed as one line of JSON for the tests in Python.
 */
public final class Main {
    private Main() {}

    /** Where a client is pointed at, and who it is. */
    record Login(String endpoint, String accessKeyId, String secretAccessKey) {
        static Login of(Map<String, JsonNode> from) {
            return new Login(from.get("endpoint").text(), from.get("accessKeyId").text(), from.get("secretAccessKey").text());
        }
    }

    /** A call that has to end with an error. */
    record Provoked(Login login, String code, String call, String mesh, int times) {}

    /** What the tests pass on. */
    record Settings(Login login, String region, String account, String mesh, List<Provoked> provoked) {
        static Settings read(Path file) throws Exception {
            Map<String, JsonNode> from = JsonNode.parser().parse(Files.readString(file)).asObject();
            List<Provoked> provoked = new ArrayList<>();
            for (JsonNode node : from.get("provoked").asArray()) {
                Map<String, JsonNode> p = node.asObject();
                provoked.add(new Provoked(
                        Login.of(p), p.get("code").text(), p.get("call").text(), p.get("mesh").text(), Integer.parseInt(p.get("times").text())));
            }
            return new Settings(Login.of(from), from.get("region").text(), from.get("account").text(), from.get("mesh").text(), provoked);
        }
    }

    /** Runs the command. */
    public static void main(String[] args) throws Exception {
        if (args.length != 2 || !List.of("operations", "identity").contains(args[0])) {
            System.err.println("give the command, operations or identity, and the file with the settings");
            System.exit(2);
        }
        if (args[0].equals("identity")) {
            System.out.println(Identity.run(JsonNode.parser().parse(Files.readString(Path.of(args[1]))).asObject().get("mesh").text()));
            return;
        }
        Checks checks = new Checks(Settings.read(Path.of(args[1])));
        new Operations(checks).run();
        System.out.println("{\"client\":\"aws-sdk-java-v2\",\"model\":" + json(Checks.model()) + ",\"called\":" + json(checks.called)
                + ",\"errors\":{" + checks.errors.entrySet().stream().map(e -> quoted(e.getKey()) + ":" + quoted(e.getValue())).collect(Collectors.joining(","))
                + "},\"checks\":" + checks.count + "}");
    }

    private static String json(Collection<String> names) {
        return names.stream().map(Main::quoted).collect(Collectors.joining(",", "[", "]"));
    }

    /** Operations, codes and names of classes have nothing that needs escaping. */
    private static String quoted(String name) {
        return '"' + name + '"';
    }
}
