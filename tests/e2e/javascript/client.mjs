// One client of tests/e2e/test_third_party_clients.py. Arguments: kubeconfig, namespace.
import * as k8s from '@kubernetes/client-node';

const [, , kubeconfig, namespace] = process.argv;
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const objects = config.makeApiClient(k8s.CustomObjectsApi);
const core = config.makeApiClient(k8s.CoreV1Api);
const jobs = { group: 'awsbatch.dev', version: 'v1alpha1', namespace, plural: 'batchjobs' };
const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
const patch = (spec) => objects.patchNamespacedCustomObject({ ...jobs, name: 'mine', body: { spec } }, merge);

const head = { apiVersion: 'awsbatch.dev/v1alpha1', kind: 'BatchJob', metadata: { name: 'mine' } };
await objects.createNamespacedCustomObject({ ...jobs, body: { ...head, spec: { jobId: 'job-1' } } });
const listed = (await objects.listNamespacedCustomObject(jobs)).items.map((item) => item.metadata.name);
const patched = (await patch({ terminate: { reason: 'enough' } })).spec;
const refused = await patch({ jobId: 'job-2' }).catch((error) => [error.code, JSON.parse(error.body).message]);
const map = { namespace, body: { metadata: { name: 'mine' }, data: { a: 'b' } } };
const data = (await core.createNamespacedConfigMap(map)).data;
const path = `/apis/awsbatch.dev/v1alpha1/namespaces/${namespace}/batchjobs`;
const watched = await new Promise((resolve, reject) => {
  new k8s.Watch(config).watch(path, {}, (type, object) => resolve([type, object.metadata.name]), reject).catch(reject);
});
await objects.deleteNamespacedCustomObject({ ...jobs, name: 'mine' });
console.log(JSON.stringify({ listed, patched, refused, data, watched }));
process.exit(0); // the watch is still open
