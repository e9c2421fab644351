-- Health of awsbatch.dev/BatchJob, with the rules of kstatus: is the spec realised?
-- A running job is healthy: it is mirrored, and nothing else is requested. A job that failed by itself is healthy too,
-- and the message says so. With the annotation awsbatch.dev/wait-for: job the health is that of the job: Progressing until
-- it has ended, Degraded if it failed although this object did not request its termination.
local function progressing(message)
  return { status = "Progressing", message = message }
end

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

if obj.metadata.deletionTimestamp ~= nil then
  return progressing("The object is being deleted")
end
local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return progressing("Waiting for the operator to observe this object")
end
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if conditions.Reconciling ~= nil and conditions.Reconciling.status == "True" then
  return progressing(conditions.Reconciling.message)
end
if ready.status ~= "True" then
  return progressing(ready.message)
end

local succeeded = conditions.Succeeded or { status = "Unknown", message = ready.message }
local annotations = obj.metadata.annotations or {}
if annotations["awsbatch.dev/wait-for"] == "job" then
  if succeeded.status == "Unknown" then
    return progressing(succeeded.message)
  end
  if succeeded.status == "False" and ready.reason == "Observed" then
    return { status = "Degraded", message = succeeded.message }
  end
end
if succeeded.status == "Unknown" then
  return { status = "Healthy", message = ready.message }
end
return { status = "Healthy", message = succeeded.message }
