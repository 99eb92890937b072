package fairlead;

import software.amazon.awssdk.services.appmesh.AppMeshClient;
import software.amazon.awssdk.services.appmesh.model.AppMeshException;

/** Describes a mesh, and tries to delete it, as whoever the environment says. */
final class Identity {
    private Identity() {}

    static String run(String mesh) {
        try (AppMeshClient client = AppMeshClient.create()) {
            String described = client.describeMesh(r -> r.meshName(mesh)).mesh().meshName();
            String refused = "nothing";
            try {
                client.deleteMesh(r -> r.meshName(mesh));
            } catch (AppMeshException e) {
                refused = e.awsErrorDetails().errorCode();
            }
            return "{\"mesh\":\"" + described + "\",\"refused\":\"" + refused + "\"}";
        }
    }
}
